"""A coordinator and a site set up and used on one disk, as a program to be recorded; and what each word given promises.

    python -m tests.power_cut_site ELSEWHERE FOLDER TOLD

FOLDER is empty. The site enrols with, and renews its certificate at, another coordinator, whose disk under ELSEWHERE
does not fail. `check` says what must be there once a word was given, and that no file is ever half there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import stamina
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from coordinator.running import initialise
from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import Settings as CoordinatorSettings
from coordinator.store.store import Store
from shared.documents import canonical
from shared.identity import CertificateAuthority, load_signing_key
from shared.pairs import Pair, sha256_hex
from site_node.cases import PrivateStore, ledger
from site_node.certificate import Identity, identity_file, private_key, read_identity
from site_node.dp.budget import commit, reserve
from site_node.dp.events import GaussianRelease, Reading
from site_node.dp.ledger import check_whole, facts
from site_node.jobs import JobState, Queue
from site_node.link.enrol import enrol
from site_node.link.renewal import Renewal, Turn
from site_node.policy import Policy, read_policy, write_policy
from site_node.settings import Home, Settings
from tests.helpers import ZEROS, Coordinator, noise_pair, running, small_study
from tests.power_cut_release import Tell, teller

POLICIES = (Policy(stewards=("ada", "grace")), Policy(stewards=("grace",)))
READING = Reading(GaussianRelease(20.0), "moments", ZEROS, "release-1", "trainer", clip=1.0, delta=1e-5, patients=100)


def imported(first: int) -> Iterator[tuple[str, Pair]]:
    """Two patients with a pair each."""
    return ((f"patient-{seed}", noise_pair(seed)) for seed in (first, first + 1))


def go(folder: Path, tell: Tell, elsewhere: Coordinator) -> None:
    """Both are set up; the site enrols, imports twice, takes a study, spends, and gets a new certificate."""
    initialise(CoordinatorHome(folder / "coordinator"), CoordinatorSettings(name="hub"))
    tell("coordinator")
    home = Home(folder / "north")
    home.create(Settings())
    enrol(home, elsewhere.invite("north"))
    tell("enrolled", certificate=sha256_hex(read_identity(home).certificate))
    for number, policy in enumerate(POLICIES):
        write_policy(home.policy_file, policy)
        tell("policy", number=number)
    store, queue = PrivateStore(home.private), Queue(home.exchange)
    for number in (0, 10):
        store.replace_cases(imported(number), actor="administrator")
        tell("imported", first=number)
    tell("study", sha256=queue.take_study(canonical(small_study())))
    job = queue.claim()
    assert job is not None
    tell("claimed", job=job.job_id)
    for number in range(2):
        reservation = reserve(store, READING, POLICIES[0])
        tell("reserved", count=number + 1)
        commit(store, reservation)
        tell("committed", count=number + 1)
    queue.end(job.job_id, JobState.DONE)
    tell("done", job=job.job_id)
    later = datetime.now(UTC) + timedelta(days=25)
    assert Renewal(home, queue, lambda: later).turn() is Turn.RENEWED
    tell("renewed", certificate=sha256_hex(read_identity(home).certificate))
    store.engine.dispose()
    queue.engine.dispose()


def check_no_half(folder: Path) -> None:
    """What has its name is whole: keys, certificates, secrets, settings."""
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            continue  # a file that was still being written beside its place
        if path.name == "flower.key":
            load_ssh_private_key(path.read_bytes(), password=None)
        elif path.suffix == ".key":
            load_pem_private_key(path.read_bytes(), password=None)
        elif path.suffix == ".crt":
            x509.load_pem_x509_certificate(path.read_bytes())
        elif path.suffix == ".secret":
            assert len(path.read_bytes()) == 32
    site, hub = Home(folder / "north"), CoordinatorHome(folder / "coordinator")
    for file, read in (
        (hub.settings_file, hub.settings),
        (site.settings_file, site.settings),
        (site.membership_file, site.membership),
        (site.policy_file, lambda: read_policy(site.policy_file)),
    ):
        if file.exists():
            read()
    if identity_file(site).exists():
        check_pair(read_identity(site))


def check_pair(identity: Identity) -> None:
    """The key is the certificate's."""
    assert private_key(identity.key).public_key() == x509.load_pem_x509_certificate(identity.certificate).public_key()


def check(folder: Path, told: list[dict[str, Any]]) -> None:
    """Nothing is half there, and every word that was given holds."""
    check_no_half(folder)
    words = {fact["fact"]: fact for fact in told}  # of a word that was given twice, the last
    if "coordinator" in words:
        check_coordinator(CoordinatorHome(folder / "coordinator"))
    if "enrolled" in words:
        check_site(Home(folder / "north"), words)


def check_coordinator(home: CoordinatorHome) -> None:
    """It can start."""
    assert home.settings().name == "hub"
    authority = CertificateAuthority.load(home.keys / "ca.key", home.keys / "ca.crt")
    served = x509.load_pem_x509_certificate((home.keys / "server.crt").read_bytes())
    served.verify_directly_issued_by(authority.certificate)
    load_signing_key(home.keys / "signing.key")
    assert (home.keys / "rounds.secret").exists()
    assert home.incoming.is_dir()
    assert home.quarantine.is_dir()
    store = Store(home.database_url())
    assert [entry.action for entry in store.journal()] == ["init"]
    store.engine.dispose()


def check_site(home: Home, words: dict[str, dict[str, Any]]) -> None:
    """It is enrolled, and what it was told or told others stands."""
    assert home.ready().membership().site == "north"
    load_signing_key(home.seal_keys / "signing.key")
    assert all((home.link_keys / name).exists() for name in ("ca.crt", "flower.key", "executor.secret"))
    assert all(place.is_dir() for place in (home.inbox, home.outbox, home.flower, home.logs))
    held = sha256_hex(read_identity(home).certificate)
    assert held == words["renewed"]["certificate"] if "renewed" in words else True
    assert "renewed" in words or "done" in words or held == words["enrolled"]["certificate"]
    if "policy" in words:
        assert read_policy(home.policy_file) in POLICIES[words["policy"]["number"] :]
    store, queue = PrivateStore(home.private), Queue(home.exchange)
    if "imported" in words:
        check_cases(store, words["imported"]["first"], settled="study" in words)
    if "study" in words:
        assert queue.study(words["study"]["sha256"]).image.size_px == 32
        job = queue.release_job(words["study"]["sha256"])
        assert job is not None
        assert job.attempts == 1 or "claimed" not in words
        assert job.state is JobState.DONE or "done" not in words
    with store.reading.begin() as connection:
        check_whole(connection, ledger)
        found = facts(connection, ledger)
    assert all(fact.noised == READING for fact in found)
    assert len(found) >= words.get("reserved", {"count": 0})["count"], "the ledger counts low"
    committed = [fact for fact in found if fact.state == "committed"]
    assert len(committed) >= words.get("committed", {"count": 0})["count"]
    store.engine.dispose()
    queue.engine.dispose()


def check_cases(store: PrivateStore, first: int, *, settled: bool) -> None:
    """The last import that was told of, or the next, whole; once that is settled, no other patient is left."""
    cases = {case.patient: case.load() for case in store.cases()}
    assert set(cases) in [{patient for patient, _ in imported(number)} for number in {first, 10}]
    for patient, pair in imported(int(min(cases).removeprefix("patient-"))):
        assert (cases[patient].image == pair.image).all()
        assert (cases[patient].mask == pair.mask).all()
    assert not settled or len(list((store.folder / "cases").iterdir())) == 1, "a patient who was taken out is back"


def main(elsewhere: Path, folder: Path, told: Path) -> None:
    """Goes the way."""
    stamina.set_testing(True, attempts=3, cap=True)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with running(Coordinator(elsewhere)) as coordinator:
        go(folder, teller(told), coordinator)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
