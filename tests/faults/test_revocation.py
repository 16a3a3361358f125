"""Taking a release back over the wire: durable at each step, believed only when it is signed, and for good."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import grpc
import pytest

from coordinator.datasets.build import build, load
from coordinator.release_service import ReleaseService
from coordinator.revoking import list_for_receivers
from shared.documents import canonical, sign, verify
from shared.identity import new_signing_key
from shared.pairs import sha256_hex
from shared.release import State
from shared.revocation import Revocation, RevocationReceipt
from shared.study import Study
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from
from site_node.link.channel import release_channel
from site_node.revocations import Revocations
from site_node.settings import Home
from tests.enrolled_site import POLICY, EnrolledSite
from tests.helpers import Coordinator, caller, chunks_of, outbox_state, refused, running, signing_key, small_study

pytestmark = pytest.mark.usefixtures("impatient")
WHY = "patient 4711 withdraws consent"


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study())


@pytest.fixture
def north(coordinator: Coordinator, tmp_path: Path) -> EnrolledSite:
    return EnrolledSite.join(coordinator, tmp_path / "north", "north")


def study_sha256(study: Study) -> str:
    return sha256_hex(canonical(study))


def state_of(site: EnrolledSite, release_id: str) -> State:
    return site.airlock.release(release_id).state


def test_an_accepted_release_is_revoked_and_no_new_version_holds_it(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    kept, gone = north.accepted(study, (1, 2)), north.accepted(study, (3, 4))
    first, _, dataset = build(coordinator.store, study_sha256(study), actor="operator")
    assert set(dataset.bundles) == {kept.bundle_sha256, gone.bundle_sha256}
    north.airlock.revoke(POLICY, gone.release_id, "ada", WHY)
    north.turn()
    assert state_of(north, gone.release_id) is State.REVOKED
    assert coordinator.actions("revoke-bundle") == [gone.bundle_sha256]
    version, _, dataset = build(coordinator.store, study_sha256(study), actor="operator")
    assert (first, version) == (1, 2)
    assert dataset.bundles == (kept.bundle_sha256,)
    with refused("dataset.revoked"):
        load(coordinator.store, study_sha256(study), first)
    assert load(coordinator.store, study_sha256(study), 0)[0] == version
    assert [line.bundle_sha256 for line in list_for_receivers(coordinator.store).revoked] == [gone.bundle_sha256]


def test_the_receipt_is_the_coordinators_and_the_reason_stays_at_the_site(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    release = north.accepted(study)
    north.airlock.revoke(POLICY, release.release_id, "ada", WHY)
    north.turn()
    (row,) = Revocations(north.queue).all()
    verify(coordinator.key.public_key(), "revocation-receipt", row.receipt, row.receipt_signature)
    sent = b"".join(path.read_bytes() for path in coordinator.capture.iterdir())
    assert release.bundle_sha256.encode() in sent
    assert WHY.encode() not in sent
    assert WHY in [event.detail for event in north.airlock.history(POLICY, release.release_id, "ada")]


def test_a_revoked_bundle_is_never_accepted_again(coordinator: Coordinator, study: Study, north: EnrolledSite) -> None:
    release = north.accepted(study)
    north.airlock.revoke(POLICY, release.release_id, "ada", WHY)
    north.turn()
    coordinator.restart()
    with caller(north.home) as client:
        with refused("admission.revoked"):
            client.begin_sealed(north.home, release.manifest)
        with refused("admission.revoked"):
            client.finish(release.bundle_sha256)
    assert coordinator.accepted() == []


def test_a_coordinator_that_is_away_is_told_when_it_is_back(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    release = north.accepted(study)
    north.airlock.revoke(POLICY, release.release_id, "ada", WHY)
    coordinator.stop()
    north.trainer()
    assert not north.link()
    north.trainer()
    assert state_of(north, release.release_id) is State.REVOKING
    assert Revocations(north.queue).waiting()[0].code == "unavailable.service"
    coordinator.start()
    north.turn()
    assert state_of(north, release.release_id) is State.REVOKED


def test_a_receipt_that_was_lost_is_given_again(coordinator: Coordinator, study: Study, north: EnrolledSite) -> None:
    release = north.accepted(study)
    north.airlock.revoke(POLICY, release.release_id, "ada", WHY)
    north.trainer()
    (row,) = Revocations(north.queue).waiting()
    receipt = revoke(north.home, row.payload, row.signature)  # the link dies before it writes this down
    coordinator.restart()
    north.turn()
    assert bytes(Revocations(north.queue).all()[0].receipt) == receipt.payload
    assert coordinator.actions("revoke-bundle") == [release.bundle_sha256]


def test_a_release_that_is_halfway_over_is_revoked_and_what_arrived_is_deleted(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    release = north.approved(study)
    north.trainer()
    sha256, objects = release.bundle_sha256, north.home.outbox / release.bundle_sha256 / "objects"
    first = sorted(path.stem for path in objects.iterdir())[0]
    north.queue.start_sending(sha256)
    north.trainer()
    with caller(north.home) as client:
        client.begin_sealed(north.home, release.manifest)
        client.upload(sha256, chunks_of(first, (objects / f"{first}.png").read_bytes()))
    assert (coordinator.folder / "incoming" / sha256).exists()
    north.airlock.revoke(POLICY, release.release_id, "ada", WHY)
    north.turn()
    assert state_of(north, release.release_id) is State.REVOKED
    assert outbox_of_release(north, sha256) == "revoked"
    assert not (coordinator.folder / "incoming" / sha256).exists()
    assert coordinator.accepted() == []
    assert list_for_receivers(coordinator.store).revoked == (), "nobody can hold a copy"


def outbox_of_release(site: EnrolledSite, sha256: str) -> str:
    """The state of a bundle in the outbox."""
    return next(str(row.state) for row in site.queue.offered("sending", "revoked") if row.bundle_sha256 == sha256)


def test_a_bundle_that_is_revoked_before_it_began_is_refused_when_it_comes(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    release = north.approved(study)
    north.trainer()
    north.queue.start_sending(release.bundle_sha256)
    north.trainer()  # by the site's books it has begun to leave; by the coordinator's it has not
    north.airlock.revoke(POLICY, release.release_id, "ada", WHY)
    north.turn()
    assert state_of(north, release.release_id) is State.REVOKED
    with caller(north.home) as client, refused("admission.revoked"):
        client.begin_sealed(north.home, release.manifest)
    assert list_for_receivers(coordinator.store).revoked == (), "nobody can hold a copy"


def test_a_refusal_because_it_was_taken_back_is_final_for_the_outbox(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    release = north.approved(study)
    north.trainer()
    payload = revocation_of(release.bundle_sha256, "north")
    revoke(north.home, payload, sign(signing_key(north.home), "revocation", payload))
    assert north.link()
    assert outbox_state(north.home, release.bundle_sha256) == ("refused", "admission.revoked")


def test_a_revocation_that_overtakes_the_acceptance_wins(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    release = north.approved(study)
    north.trainer()
    sha256 = release.bundle_sha256
    with caller(north.home) as client:
        client.begin_sealed(north.home, release.manifest)
    payload = revocation_of(sha256, "north")
    revoke(north.home, payload, sign(signing_key(north.home), "revocation", payload))
    with refused("admission.revoked"):  # a Finish that had passed every check before
        coordinator.store.accept_bundle(sha256, b"receipt", b"signature", site="north")
    assert coordinator.accepted() == []


# Who may, and who lies


def revocation_of(sha256: str, site: str) -> bytes:
    return canonical(Revocation(bundle_sha256=sha256, site=site, revoked_on=date(2026, 11, 21)))


def revoke(home: Home, payload: bytes, signature: bytes) -> pb.SignedReceipt:
    """The bare call, as a hostile site would make it. Raises the coordinator's error."""
    with release_channel(home) as channel:
        try:
            request = pb.RevokeRequest(revocation=payload, signature=signature)
            return rpc.ReleasesStub(channel).Revoke(request, timeout=20).receipt
        except grpc.RpcError as error:
            raise error_from(error) from error


@pytest.mark.parametrize(
    ("named", "signed_by", "kind", "code"),
    [
        ("harbour", "harbour", "revocation", "admission.site"),  # another's bundle under one's own name
        ("north", "harbour", "revocation", "admission.site"),  # under the other's name, with one's own key
        ("north", "north", "revocation", "trust.signature"),  # with the other's key, over one's own connection
        ("harbour", "harbour", "manifest", "trust.signature"),
    ],
)
def test_no_site_takes_back_what_is_anothers(
    coordinator: Coordinator, study: Study, north: EnrolledSite, tmp_path: Path,
    named: str, signed_by: str, kind: str, code: str,
) -> None:  # fmt: skip
    release = north.accepted(study)
    harbour = EnrolledSite.join(coordinator, tmp_path / "harbour", "harbour")
    keys = {"north": signing_key(north.home), "harbour": signing_key(harbour.home)}
    payload = revocation_of(release.bundle_sha256, named)
    with refused(code):
        revoke(harbour.home, payload, sign(keys[signed_by], kind, payload))  # type: ignore[arg-type]
    assert coordinator.accepted() == [release.bundle_sha256]
    assert not coordinator.actions("revoke-bundle")


@pytest.mark.parametrize("lie", ["a stranger's", "of another bundle", "of another site"])
def test_a_forged_receipt_ends_nothing(tmp_path: Path, lie: str) -> None:
    coordinator = Coordinator(tmp_path / "coordinator")

    class Liar(ReleaseService):
        def Revoke(self, request: pb.RevokeRequest, context: grpc.ServicerContext) -> pb.RevokeReply:
            asked = Revocation.model_validate_json(request.revocation)
            receipt = RevocationReceipt(
                bundle_sha256="0" * 64 if lie == "of another bundle" else asked.bundle_sha256,
                site="harbour" if lie == "of another site" else asked.site,
                noted_at=datetime.now(UTC),
            )
            key = new_signing_key() if lie == "a stranger's" else coordinator.key
            payload = canonical(receipt)
            signature = sign(key, "revocation-receipt", payload)
            return pb.RevokeReply(receipt=pb.SignedReceipt(payload=payload, signature=signature))

    coordinator.service = Liar
    with running(coordinator):
        study = coordinator.publish(small_study())
        north = EnrolledSite.join(coordinator, tmp_path / "north", "north")
        release = north.accepted(study)
        north.airlock.revoke(POLICY, release.release_id, "ada", WHY)
        north.turn()
        assert state_of(north, release.release_id) is State.REVOKING
        assert "receipt-refused" in [entry.action for entry in north.queue.journal()]
        assert Revocations(north.queue).waiting()[0].code == "trust.signature"
