"""Checkpoints, seen from the coordinator: what a site says is read strictly, the answer is signed."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from coordinator.store.checkpoints import Heads, Told, exchange
from coordinator.store.store import Store
from shared.checkpoint import Checkpoint, Head
from shared.documents import canonical, parse, sign, verify
from shared.errors import SynthwardError


class Checkpoints:
    """Answers sites' calls. key: the coordinator's signing key, under which its own checkpoints come back too."""

    def __init__(self, store: Store, key: Ed25519PrivateKey) -> None:
        self._store = store
        self._key = key

    def answer(self, site: str, told: Told) -> tuple[bytes, bytes, str]:
        """(checkpoint, its signature, our digest now where the site's last one of us ends)."""
        kept = exchange(self._store, self._store.site(site), told)
        payload = canonical(Checkpoint(site=site, coordinator=kept.own, link=kept.held.link, trainer=kept.held.trainer))
        return payload, sign(self._key, "checkpoint", payload), kept.at_last

    def read(
        self, site: str, *, link: tuple[int, str], trainer: tuple[int, str], last: tuple[bytes, bytes], rolled_back: int
    ) -> Told:
        """What a site says, checked. Raises document.malformed, trust.signature or trust.identity.

        link, trainer: (entries, digest). last: (payload, signature) of our last checkpoint, or empty.
        """
        if rolled_back not in (0, 1):
            raise SynthwardError("document.malformed", f"rolled_back is {rolled_back}, neither 0 nor 1")
        try:
            heads = Heads(Head(entries=link[0], sha256=link[1]), Head(entries=trainer[0], sha256=trainer[1]))
        except ValidationError as error:
            raise SynthwardError("document.malformed", "a site states a journal that cannot be") from error
        return Told(heads, self._own(site, *last), rolled_back == 1)

    def _own(self, site: str, payload: bytes, signature: bytes) -> Checkpoint | None:
        """One of our own checkpoints as it comes back. It must be ours: a site could accuse us of anything else."""
        if not payload:
            return None
        verify(self._key.public_key(), "checkpoint", payload, signature)
        found = parse(Checkpoint, payload)
        if found.site != site:
            raise SynthwardError("trust.identity", f"site {site} repeats the checkpoint of {found.site}")
        return found
