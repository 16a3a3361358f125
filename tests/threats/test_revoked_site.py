"""A site that its coordinator revoked: refused at its next call of whatever method, its node at its next message.

gRPC runs over real TLS; the last tests have a real SuperLink in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from typer.testing import CliRunner

from coordinator.cli import app as coordinator_app
from coordinator.enrolment import renew
from coordinator.rounds.flower_run import register_node, unregister_nodes
from coordinator.running import initialise
from coordinator.service import expel_revoked, superlink
from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import Settings as CoordinatorSettings
from coordinator.store.certificates import add_certificate, revoke_site
from coordinator.store.store import Site, Store
from shared.errors import ExitCode
from shared.identity import (
    CertificateAuthority,
    certificate_request,
    flower_public_bytes,
    new_flower_key,
    new_tls_key,
    peer,
)
from shared.pairs import sha256_hex
from shared.ports import free_ports
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from
from site_node.link.channel import release_channel
from site_node.link.enrol import enrol as enrol_site
from site_node.link.renewal import Renewal, Turn
from site_node.settings import Home
from site_node.standing import read_standing
from site_node.status import read_status
from tests.enrolled_site import EnrolledSite
from tests.helpers import Coordinator, new_home, outbox_state, refused, small_study
from tests.superlink import running_superlink

pytestmark = pytest.mark.usefixtures("impatient")
BECAUSE = "the contract has ended"


@pytest.fixture
def north(coordinator: Coordinator, tmp_path: Path) -> EnrolledSite:
    """An enrolled site."""
    return EnrolledSite.join(coordinator, tmp_path / "north", "north")


CALLS: dict[str, Callable[[rpc.ReleasesStub], object]] = {
    "Begin": lambda stub: stub.Begin(pb.BeginRequest(manifest=b"{}", signature=b""), timeout=10),
    "Upload": lambda stub: stub.Upload(iter([pb.Chunk(bundle_sha256="0" * 64)]), timeout=10),
    "Finish": lambda stub: stub.Finish(pb.FinishRequest(bundle_sha256="0" * 64), timeout=10),
    "Revoke": lambda stub: stub.Revoke(pb.RevokeRequest(revocation=b"{}", signature=b""), timeout=10),
    "Checkpoint": lambda stub: stub.Checkpoint(pb.CheckpointRequest(), timeout=10),
    "Renew": lambda stub: stub.Renew(
        pb.RenewRequest(certificate_request=certificate_request(new_tls_key(), "north")), timeout=10
    ),
}


def code_of(call: Callable[[rpc.ReleasesStub], object], channel: grpc.Channel) -> str:
    """The code that a call ends with; empty when it succeeds."""
    try:
        call(rpc.ReleasesStub(channel))  # type: ignore[no-untyped-call]
    except grpc.RpcError as error:
        return error_from(error).code
    return ""


def test_the_calls_of_these_tests_are_all_that_there_are() -> None:
    assert set(CALLS) == {method.name for method in pb.DESCRIPTOR.services_by_name["Releases"].methods}


@pytest.mark.parametrize("method", CALLS)
def test_the_next_call_is_refused_on_the_connection_that_is_open(
    coordinator: Coordinator, north: EnrolledSite, method: str
) -> None:
    with release_channel(north.home) as channel:
        assert code_of(CALLS[method], channel) != "trust.revoked"
        revoke_site(coordinator.store, "north", BECAUSE, actor="operator")
        entries = len(coordinator.store.journal())
        assert code_of(CALLS[method], channel) == "trust.revoked"
        assert len(coordinator.store.journal()) == entries  # and it has changed nothing
    with release_channel(north.home) as channel:
        assert code_of(CALLS[method], channel) == "trust.revoked"


def test_every_certificate_of_the_site_is_refused_and_other_sites_go_on(
    coordinator: Coordinator, north: EnrolledSite, tmp_path: Path
) -> None:
    south = EnrolledSite.join(coordinator, tmp_path / "south", "south")
    before = (north.home.link_keys / "tls.pem").read_bytes()
    assert Renewal(north.home, north.queue, _in_21_days).turn() is Turn.RENEWED
    revoke_site(coordinator.store, "north", BECAUSE, actor="operator")
    for identity in ((north.home.link_keys / "tls.pem").read_bytes(), before):
        (north.home.link_keys / "tls.pem").write_bytes(identity)
        with release_channel(north.home) as channel:
            assert code_of(CALLS["Checkpoint"], channel) == "trust.revoked"
    with release_channel(south.home) as channel:
        assert code_of(CALLS["Renew"], channel) == ""


def _in_21_days() -> datetime:
    return datetime.now(UTC) + timedelta(days=21)


def test_a_revocation_during_a_renewal_wins(coordinator: Coordinator, north: EnrolledSite) -> None:
    request = certificate_request(new_tls_key(), "north")
    certificate = coordinator.authority.site_certificate(request, "north")  # made, and not recorded yet
    revoke_site(coordinator.store, "north", BECAUSE, actor="operator")
    with refused("trust.revoked"):
        add_certificate(coordinator.store, "north", "0" * 64, certificate)
    with refused("trust.revoked"):
        renew(coordinator.store, coordinator.authority, "north", request)
    assert not coordinator.actions("renew-certificate")


def test_revoking_is_journalled_with_its_reason_once(coordinator: Coordinator, north: EnrolledSite) -> None:
    assert revoke_site(coordinator.store, "north", BECAUSE, actor="operator")
    assert not revoke_site(coordinator.store, "north", "another reason", actor="operator")
    (line,) = [entry for entry in coordinator.store.journal() if entry.action == "revoke-site"]
    assert (line.actor, line.subject, line.detail) == ("operator", "north", BECAUSE)
    with refused("site.unknown"):
        revoke_site(coordinator.store, "nobody", BECAUSE, actor="operator")


def test_the_site_sees_it_in_its_status_and_keeps_what_waits(coordinator: Coordinator, north: EnrolledSite) -> None:
    study = coordinator.publish(small_study())
    assert read_status(north.home)["coordinator"]["code"] == ""
    release = north.approved(study)
    revoke_site(coordinator.store, "north", BECAUSE, actor="operator")
    north.turn()
    status = read_status(north.home)["coordinator"]
    assert status["code"] == "trust.revoked"
    assert "invitation" in status["do"]
    assert BECAUSE not in json.dumps(read_status(north.home))  # the operator's reason stays with the operator
    assert outbox_state(north.home, release.bundle_sha256) == ("sending", "")
    assert coordinator.accepted() == []
    assert [line.subject for line in north.queue.journal() if line.action == "standing"] == ["trust.revoked"]


def test_invitations_that_were_open_or_used_let_nobody_back_in_and_a_new_one_does(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    used, still_open = coordinator.invite("north"), coordinator.invite("north")
    first = new_home(tmp_path / "first")
    enrol_site(first, used)
    revoke_site(coordinator.store, "north", BECAUSE, actor="operator")
    with refused("trust.invitation-used"):
        enrol_site(new_home(tmp_path / "second"), still_open)
    with refused("trust.invitation-used"):
        enrol_site(new_home(tmp_path / "third"), used)
    # The keys that used it would be answered again, as after a lost answer: not those of a revoked site.
    mine = coordinator.store.site("north").signing_key
    with refused("trust.revoked"):
        coordinator.store.invited_site(_digest(used.secret), used_by=mine)
    enrol_site(new_home(tmp_path / "fourth"), coordinator.invite("north"))
    assert coordinator.store.site("north").state == "active"
    with release_channel(first) as channel:  # the old folder stays out
        assert code_of(CALLS["Checkpoint"], channel) == "trust.certificate"
    with release_channel(Home(tmp_path / "fourth")) as channel:
        assert code_of(CALLS["Renew"], channel) == ""


def _digest(secret: str) -> str:
    return sha256_hex(bytes.fromhex(secret))


def test_a_standing_that_is_good_again_is_seen(coordinator: Coordinator, north: EnrolledSite) -> None:
    north.link()
    assert read_standing(north.queue).code == ""
    revoke_site(coordinator.store, "north", BECAUSE, actor="operator")
    north.link()
    assert read_standing(north.queue).code == "trust.revoked"
    # What an operator's restored backup amounts to.
    with coordinator.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sites SET state = 'active'")
    north.link()
    assert read_standing(north.queue).code == ""


# The command and the SuperLink


def with_site(home: CoordinatorHome, flower_key: bytes, node_id: int) -> Store:
    """The coordinator's store, with a site in it."""
    store, key = Store(home.database_url()), new_tls_key()
    authority = CertificateAuthority.load(home.keys / "ca.key", home.keys / "ca.crt")
    certificate = authority.site_certificate(certificate_request(key, "north"), "north")
    store.invite("north", "a" * 64, timedelta(hours=1), actor="operator")
    serial = f"{peer(certificate)[2]:x}"
    store.enrol("a" * 64, Site("north", "active", serial, b"s" * 32, flower_key, node_id), certificate)
    return store


def told(home: CoordinatorHome, *words: str, exit_code: int = 0) -> dict[str, object]:
    """What a command with --json answers."""
    done = CliRunner().invoke(coordinator_app, [*words, "--home", str(home.path), "--json"])
    assert done.exit_code == exit_code, done.output
    return dict(json.loads(done.stdout)) if done.stdout else {}


def test_the_command_revokes_also_while_the_coordinator_is_down_and_the_list_says_so(tmp_path: Path) -> None:
    home = CoordinatorHome(tmp_path / "coordinator")
    initialise(home, CoordinatorSettings(name="trial", flower_port=free_ports(1)[0]))
    with_site(home, b"key", 7)
    (line,) = told(home, "site", "list")["sites"]  # type: ignore[misc]
    assert (line["name"], line["state"]) == ("north", "active")
    assert line["certificate_ends"] > "2026"
    for reason in ("", "  ", "x" * 501):
        told(home, "site", "revoke", "north", "--because", reason, exit_code=ExitCode.USAGE)
    told(home, "site", "revoke", "nobody", "--because", BECAUSE, exit_code=ExitCode.STATE)
    answer = told(home, "site", "revoke", "north", "--because", BECAUSE)
    assert answer == {"site": "north", "revoked_now": True, "off_the_superlink": False}
    (line,) = told(home, "site", "list")["sites"]  # type: ignore[misc]
    assert (line["state"], line["certificate_ends"]) == ("revoked", "")
    assert told(home, "site", "revoke", "north", "--because", BECAUSE)["revoked_now"] is False


def test_a_revoked_sites_node_is_refused_at_its_next_message(tmp_path: Path) -> None:
    with running_superlink(tmp_path / "coordinator") as home:
        here, key, other = superlink(home), new_flower_key(), new_flower_key()
        pem = flower_public_bytes(key)
        node_id = register_node(here, "north", pem)
        other_id = register_node(here, "south", flower_public_bytes(other))
        store = with_site(home, pem, node_id)
        assert message_status(home, key, node_id) == 200
        assert expelled_now(home, store) == set()  # an active site is left alone
        assert told(home, "site", "revoke", "north", "--because", BECAUSE)["off_the_superlink"] is True
        assert message_status(home, key, node_id) == 401
        assert message_status(home, other, other_id) == 200
        # The service looks again at its start, and that does no harm.
        assert expelled_now(home, store) == {pem}
        assert unregister_nodes(here, {pem}) == 0
        assert message_status(home, key, node_id) == 401


def message_status(home: CoordinatorHome, key: ec.EllipticCurvePrivateKey, node_id: int) -> int:
    """The HTTP status with which the fleet interface answers a node that asks for its messages, signed as nodes do."""
    client = FleetHttpClient.from_server_address(
        f"127.0.0.1:{home.settings().fleet_port}",
        False,
        (home.keys / "ca.crt").read_bytes(),
        (NodeAuthHttpInterceptor(key, key.public_key()),),
    )
    with contextlib.closing(client):
        try:
            client.PullMessages(PullMessagesRequest(node=Node(node_id=node_id)))
        except httpx.HTTPStatusError as error:
            return error.response.status_code
    return 200


def expelled_now(home: CoordinatorHome, store: Store) -> set[bytes]:
    """The Flower keys that a service would see to at its start."""
    expelled: set[bytes] = set()
    expel_revoked(home, store, expelled)
    return expelled
