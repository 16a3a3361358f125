"""A disk that fills up, at either side and at whatever step: an error with a code, nothing half, and it goes on after.

Which step meets the full disk depends on how many bytes are left, so they are swept instead of the steps; each sweep
says which steps it has hit, and a sweep that misses one of them fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.datasets.build import build
from shared import journal as chain
from shared.bundle import Manifest
from shared.documents import parse
from shared.pairs import Pair, sha256_hex
from shared.release import State
from shared.study import Study
from site_node.cases import PrivateStore
from site_node.cases import journal as private_journal
from site_node.settings import Home
from tests.enrolled_site import POLICY
from tests.helpers import manifest_of, noise_pair, png_objects
from tests.loopback import Line, LocalCoordinator, LocalSite, code_of, make_both, open_both, study_sha256
from tests.small_disk import Quota, Tmpfs, small_disk

pytestmark = pytest.mark.usefixtures("impatient")
KIB = 1024
# What is left free: a file takes whole pages of 4 KiB, the release's forty some 200 KiB.
AT_THE_SITE = [KIB * kib for kib in (0, 8, 40, 96, 160, 224)]
AT_THE_COORDINATOR = [KIB * kib for kib in (0, 8, 96, 184, 192, 200, 208, 216, 400)]
RELEASE = "release-1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """(a folder with both sides and a release that ada has opened, the study)."""
    folder = tmp_path_factory.mktemp("full")
    study = make_both(folder / "both")
    entries, objects = png_objects([noise_pair(seed) for seed in range(20)])
    _, site = open_both(folder / "both")
    site.draft(manifest_of(study, "north", entries, release_id=RELEASE), objects)
    site.airlock.review(POLICY, RELEASE, "ada")
    site.drop()
    return folder / "both", study


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Tmpfs | Quota]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


def check_accepted_once(coordinator: LocalCoordinator, site: LocalSite, study: Study) -> None:
    """The release has gone its whole way, once; what is stored is whole, both sides' journals hold."""
    release = site.airlock.release(RELEASE)
    assert release.state is State.ACCEPTED
    assert coordinator.accepted() == [release.bundle_sha256]
    journal = coordinator.store.journal()
    chain.verify(journal)
    chain.verify(site.queue.journal())
    with site.store.reading.begin() as connection:
        chain.verify(chain.entries(connection, private_journal))
    assert [line.action for line in journal].count("accept-bundle") == 1
    for name in release.manifest.objects():
        coordinator.objects.get(name)
    assert build(coordinator.store, study_sha256(study), actor="operator")[2].bundles == (release.bundle_sha256,)
    assert not list((coordinator.folder / "incoming").iterdir())
    assert not list((coordinator.folder / "quarantine").iterdir())


def check_whole_or_not_there(site: LocalSite) -> None:
    """What lies in the outbox under a bundle's name is what was approved, down to the last file."""
    for folder in site.home.outbox.iterdir():
        if not folder.name.startswith("."):
            payload = (folder / "manifest.json").read_bytes()
            assert sha256_hex(payload) == folder.name
            for name in parse(Manifest, payload).objects():
                assert sha256_hex((folder / "objects" / f"{name}.png").read_bytes()) == name


def steps_of_the_site(site: LocalSite, coordinator: LocalCoordinator) -> dict[str, Callable[[], object]]:
    """A release's way from its steward's vote to its receipt; safe to repeat, each of them."""
    sha256 = site.airlock.release(RELEASE).bundle_sha256

    def approve() -> None:
        if site.airlock.release(RELEASE).state is State.IN_REVIEW:
            site.airlock.approve(POLICY, RELEASE, "ada", reviewed_sha256=sha256)

    return {
        "approve": approve,
        "seal": site.trainer,
        "send": lambda: site.link(Line(coordinator, site.home)),
        "settle": site.trainer,
    }


def everything_sent(site: LocalSite, line: Line) -> bool:
    """Whether a turn of the link left nothing to be tried again."""
    sent: list[bool] = []
    assert code_of(lambda: sent.append(site.link(line))) in ("", "storage.full")
    return sent == [True]


@pytest.mark.parametrize("restarts", [False, True], ids=["that-runs", "that-is-started-again"])
def test_a_site_goes_on_when_its_full_disk_has_room_again(
    made: tuple[Path, Study], disk: Tmpfs | Quota, tmp_path: Path, restarts: bool
) -> None:
    source, study = made
    hit: set[str] = set()
    for free in AT_THE_SITE:
        folder = disk.folder / str(free)
        shutil.copytree(source / "north", folder)
        shutil.copytree(source / "coordinator", tmp_path / str(free))
        coordinator, site = LocalCoordinator(tmp_path / str(free)), LocalSite(Home(folder))
        steps = steps_of_the_site(site, coordinator)
        if restarts:
            site.drop()
        disk.fill(free)
        for name, work in steps.items():
            told = code_of(site.open) if restarts else ""
            hit |= {f"start before {name}"} if told else set()
            told = told or code_of(work)
            assert told in ("", "storage.full")
            # A release that cannot be sealed is told to the log, and keeps the others from nothing.
            full = told or (name == "seal" and site.airlock.release(RELEASE).state is State.APPROVED)
            hit |= {name} if full else set()
            if restarts:
                site.drop()
        check_whole_or_not_there(site)
        disk.make_room()
        for work in steps.values():
            work()
        check_accepted_once(coordinator, site, study)
        site.drop()
        coordinator.drop()
        shutil.rmtree(folder)
    if disk.only_one_side:
        assert hit >= {"approve", "seal", "send"} | ({"start before approve"} if restarts else set())
    assert hit


def test_a_coordinator_goes_on_when_its_full_disk_has_room_again(
    made: tuple[Path, Study], disk: Tmpfs | Quota, tmp_path: Path
) -> None:
    source, study = made
    reached: set[str] = set()
    for free in AT_THE_COORDINATOR:
        folder = disk.folder / str(free)
        shutil.copytree(source / "coordinator", folder)
        shutil.copytree(source / "north", tmp_path / str(free))
        coordinator, site = LocalCoordinator(folder), LocalSite(Home(tmp_path / str(free)))
        steps = steps_of_the_site(site, coordinator)
        steps["approve"]()
        steps["seal"]()
        sha256 = site.airlock.release(RELEASE).bundle_sha256
        disk.fill(free)
        line = Line(coordinator, site.home)
        done = everything_sent(site, line)
        assert line.codes <= {"storage.full"}
        row = coordinator.store.bundle(sha256)
        arrived = list((folder / "incoming").glob("*/objects/*"))
        stored = {path.stem for path in (folder / "objects").rglob("*.png")}
        reached.add(
            "everything" if done
            else "receipt" if row is not None and row.state == "accepted"
            else "objects" if stored
            else "parts" if arrived
            else "begin"
        )  # fmt: skip
        assert row is None or row.state in ("incoming", "accepted")
        assert all(coordinator.objects.get(name) for name in stored)
        if row is None or row.state != "accepted":
            assert code_of(lambda store=coordinator.store: build(store, study_sha256(study), actor="x"))
        disk.make_room()
        assert site.link(Line(coordinator, site.home))
        steps["settle"]()
        check_accepted_once(coordinator, site, study)
        site.drop()
        coordinator.drop()
        shutil.rmtree(folder)
    assert len(reached) > 1
    if disk.only_one_side:
        assert reached >= {"begin", "parts", "everything"}
        assert reached & {"objects", "receipt"}


def test_an_import_on_a_full_disk_leaves_what_was_imported_before(
    made: tuple[Path, Study], disk: Tmpfs | Quota
) -> None:
    def pairs(first: int, number: int) -> Iterator[tuple[str, Pair]]:
        return ((f"p{seed}", noise_pair(seed)) for seed in range(first, first + number))

    hit: set[str] = set()
    for free in AT_THE_SITE:
        folder = disk.folder / str(free)
        folder.mkdir()
        store = PrivateStore(folder)
        store.replace_cases(pairs(0, 3), actor="administrator")
        before = {case.case_id: case.load().image.tobytes() for case in store.cases()}
        disk.fill(free)
        code = code_of(lambda store=store: store.replace_cases(pairs(10, 20), actor="administrator"))
        assert code in ("", "storage.full")
        hit.add(code)
        if code:
            assert {case.case_id: case.load().image.tobytes() for case in store.cases()} == before
        disk.make_room()
        assert store.replace_cases(pairs(10, 20), actor="administrator") == 20
        assert {case.patient for case in store.cases()} == {f"p{seed}" for seed in range(10, 30)}
        assert len(list((folder / "cases").iterdir())) == 1, "no copy of a patient is left behind"
        store.engine.dispose()
        shutil.rmtree(folder)
    assert hit == {"", "storage.full"}
