"""Enrolling a folder once more, with all that it holds: after its certificate ended, or its keys were lost or stolen.

Cases, generators, releases, both journals and the account of what was spent stay as they are: a new folder would begin
that account at nothing. Only keys change, and with them the signatures of what still waits to be sent. A kill at any
moment leaves a folder that can be enrolled again with another invitation, and in which nothing was sent or refused.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.documents import sign
from shared.errors import SynthwardError
from shared.files import write_atomic
from shared.invitation import Invitation
from shared.ports import check_free
from site_node.jobs import Queue
from site_node.link.enrol import Enrolled, apply, keep_link_keys, keep_signing_key
from site_node.revocations import Revocations
from site_node.settings import Home, Membership
from site_node.standing import note_standing

_NEW_FOLDER = "enrol into a new folder: synthward-site init"


def rejoin(home: Home, invitation: Invitation) -> Membership:
    """Enrols this folder afresh with the same coordinator, under the same name.

    Raises unavailable.port while the site runs, trust.identity where site or coordinator is another, and what enrolling
    raises: trust.* or unavailable.service.
    """
    held = home.membership()
    check_free("127.0.0.1", home.settings().node_port)
    if invitation.site != held.site:
        raise SynthwardError(
            "trust.identity", f"the invitation is for {invitation.site}, this folder is {held.site}'s", do=_NEW_FOLDER
        )
    if invitation.authority.strip() != (home.link_keys / "ca.crt").read_text(encoding="ascii").strip():
        raise _another_coordinator()
    enrolled = apply(invitation)
    if enrolled.membership.coordinator_key != held.coordinator_key:
        raise _another_coordinator()
    _keep(home, enrolled)
    return enrolled.membership


def _keep(home: Home, enrolled: Enrolled) -> None:
    """In this order: until the last step the old certificate is there, which no service takes any more."""
    queue = Queue(home.exchange)
    sign_again(home, queue, enrolled.signing_key)
    keep_signing_key(home, enrolled, replace=True)
    home.join(enrolled.membership)
    keep_link_keys(home, enrolled, replace=True)
    queue.record("administrator", "enrolled-again", enrolled.membership.site)
    queue.count_egress("enrolment", enrolled.sent_bytes)
    note_standing(queue, "")


def sign_again(home: Home, queue: Queue, key: Ed25519PrivateKey) -> None:
    """Signs by the new key what the coordinator has not confirmed: bundles in the outbox, and revocations."""
    settled = {row.bundle_sha256 for row in queue.offered("accepted", "refused")}
    for folder in home.outbox.iterdir():
        manifest = folder / "manifest.json"
        if folder.name not in settled and manifest.exists():
            write_atomic(folder / "manifest.sig", sign(key, "manifest", manifest.read_bytes()))
    Revocations(queue).sign_again(key)


def _another_coordinator() -> SynthwardError:
    return SynthwardError(
        "trust.identity",
        "the invitation is another coordinator's",
        why="what this folder holds was let out to the one that it is enrolled with",
        do=_NEW_FOLDER,
    )
