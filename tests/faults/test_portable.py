"""The way without a network: the same bundle, the same checks, once; and nothing that a medium says is believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.capture import Capture
from coordinator.cli import app as coordinator_app
from coordinator.portable import Importer, Outcome
from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import Settings
from shared.documents import canonical, sign
from shared.errors import ExitCode
from shared.identity import new_signing_key, save_key
from shared.release import State
from shared.study import Study
from site_node.cli import app as site_app
from site_node.jobs import Queue
from site_node.portable import Read, export, take_receipts
from site_node.settings import Home
from tests.enrolled_site import EnrolledSite
from tests.helpers import (
    Coordinator,
    make_sealed,
    manifest_of,
    noise_pair,
    outbox_of,
    outbox_state,
    png_objects,
    raw_entry,
    refused,
    signing_key,
    small_study,
)

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study())


@pytest.fixture
def site(coordinator: Coordinator, tmp_path: Path) -> Home:
    return coordinator.join(tmp_path / "north", "north")


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


def sealed(home: Home, study: Study, *seeds: int) -> str:
    """A sealed bundle in the site's outbox."""
    entries, objects = png_objects([noise_pair(seed) for seed in seeds or (1, 2)])
    return make_sealed(home, manifest_of(study, "north", entries), objects)


def exported(home: Home, stick: Path) -> list[str]:
    return export(home, Queue(home.exchange), stick)


def imported(coordinator: Coordinator, stick: Path) -> list[Outcome]:
    """What `import` does, with nothing remembered but what lies in the coordinator's folder."""
    return Importer(coordinator.store, coordinator.admission(), Capture(coordinator.capture)).take_in(stick)


def returned(home: Home, stick: Path) -> list[Read]:
    return take_receipts(home, Queue(home.exchange), stick)


def test_a_release_goes_its_whole_way_on_a_stick(
    coordinator: Coordinator, study: Study, tmp_path: Path, stick: Path
) -> None:
    north = EnrolledSite.join(coordinator, tmp_path / "north", "north")
    release = north.approved(study)
    north.trainer()
    (sha256,) = exported(north.home, stick)
    north.trainer()
    assert outbox_state(north.home, sha256) == ("sending", "")
    assert north.airlock.release(release.release_id).state is State.SUBMITTED
    assert not Queue(north.home.exchange).withdraw(sha256), "what has left is taken back by a revocation alone"
    assert imported(coordinator, stick) == [Outcome(sha256, "accepted", "")]
    assert coordinator.accepted() == [sha256]
    assert returned(north.home, stick) == [Read(sha256, "")]
    north.trainer()
    assert north.airlock.release(release.release_id).state is State.ACCEPTED
    assert coordinator.stored_objects() == set(release.manifest.objects())
    size = sum(path.stat().st_size for path in (stick / "bundles").rglob("*") if path.is_file())
    assert Queue(north.home.exchange).egress()["exported"] == size


def test_the_stick_holds_the_very_bytes_of_the_outbox(study: Study, site: Home, stick: Path) -> None:
    sha256 = sealed(site, study)
    exported(site, stick)
    files = {
        path.relative_to(folder): path.read_bytes()
        for folder in (site.outbox, stick / "bundles")
        for path in folder.rglob("*")
        if path.is_file()
    }
    for path, data in files.items():
        assert (site.outbox / path).read_bytes() == data
        assert (stick / "bundles" / path).read_bytes() == data
    assert {path.parts[0] for path in files} == {sha256}


def test_every_step_twice_is_every_step_once(coordinator: Coordinator, study: Study, site: Home, stick: Path) -> None:
    sha256 = sealed(site, study)
    for _ in range(2):
        assert exported(site, stick) == [sha256]
    first = imported(coordinator, stick)
    receipt = (stick / "receipts" / f"{sha256}.json").read_bytes()
    shutil.rmtree(stick / "receipts")
    assert imported(coordinator, stick) == first
    assert (stick / "receipts" / f"{sha256}.json").read_bytes() == receipt
    assert coordinator.actions("accept-bundle") == [sha256]
    assert returned(site, stick) == [Read(sha256, "")]
    assert returned(site, stick) == []
    assert exported(site, stick) == []


def test_a_stick_and_the_wire_are_one_way_in(coordinator: Coordinator, study: Study, site: Home, stick: Path) -> None:
    sha256 = sealed(site, study)
    exported(site, stick)
    with outbox_of(site) as outbox:
        assert outbox.send(sha256)
    assert imported(coordinator, stick) == [Outcome(sha256, "accepted", "")]
    assert coordinator.actions("accept-bundle") == [sha256]


def test_a_half_copied_stick_is_finished_by_the_next(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path, stick: Path
) -> None:
    sha256 = sealed(site, study, 1, 2, 3)
    exported(site, stick)
    half = Path(shutil.copytree(stick, tmp_path / "half"))
    objects = sorted((half / "bundles" / sha256 / "objects").iterdir())
    objects[-1].unlink()
    cut = objects[1].read_bytes()
    objects[1].write_bytes(cut[: len(cut) // 2])
    assert imported(coordinator, half)[0].code in ("portable.file", "admission.incomplete")
    assert coordinator.accepted() == []
    assert not (half / "receipts").exists()
    assert outbox_state(site, sha256) == ("sending", "")
    assert imported(coordinator, stick) == [Outcome(sha256, "accepted", "")]


# Sticks that somebody has tampered with


def bundle_on(stick: Path) -> Path:
    (folder,) = (stick / "bundles").iterdir()
    return folder


def first_object(stick: Path) -> Path:
    return sorted((bundle_on(stick) / "objects").iterdir())[0]


def replaced(path: Path, by: Callable[[Path], object]) -> None:
    path.unlink()
    by(path)


def moved_and_linked(path: Path) -> None:
    """The same thing in another place, and a link to it."""
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def renamed(stick: Path) -> None:
    bundle_on(stick).rename(stick / "bundles" / ("a" * 64))


TRICKS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a changed object": ("admission.digest", lambda s: flipped(first_object(s))),
    "a longer object": ("admission.size", lambda s: first_object(s).write_bytes(first_object(s).read_bytes() + b"x")),
    "an object of a gigabyte": ("admission.size", lambda s: os.truncate(first_object(s), 2**30)),
    "a link for an object": ("portable.file", lambda s: moved_and_linked(first_object(s))),
    "a link to a secret": ("portable.file", lambda s: replaced(first_object(s), lambda p: p.symlink_to("/etc/passwd"))),
    "a pipe": ("portable.file", lambda s: replaced(first_object(s), os.mkfifo)),
    "a folder": ("portable.file", lambda s: replaced(first_object(s), Path.mkdir)),
    "a link for objects": ("portable.file", lambda s: moved_and_linked(bundle_on(s) / "objects")),
    "a link for the bundle": ("portable.file", lambda s: moved_and_linked(bundle_on(s))),
    "a link for the manifest": ("portable.file", lambda s: moved_and_linked(bundle_on(s) / "manifest.json")),
    "no signature": ("portable.file", lambda s: (bundle_on(s) / "manifest.sig").unlink()),
    "a changed signature": ("trust.signature", lambda s: flipped(bundle_on(s) / "manifest.sig")),
    "a changed manifest": ("admission.digest", lambda s: flipped(bundle_on(s) / "manifest.json")),
    "an endless manifest": ("portable.file", lambda s: os.truncate(bundle_on(s) / "manifest.json", 2**34)),
    "another name": ("admission.digest", renamed),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_tampered_stick_gets_nothing_in_and_costs_nobody_the_bundle(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path, stick: Path, trick: str
) -> None:
    sha256 = sealed(site, study)
    exported(site, stick)
    bad = Path(shutil.copytree(stick, tmp_path / "bad"))
    code, do = TRICKS[trick]
    do(bad)
    assert [(outcome.state, outcome.code) for outcome in imported(coordinator, bad)] == [("refused", code)]
    assert coordinator.accepted() == []
    assert coordinator.stored_objects() == set()
    assert coordinator.actions("import-refused") != []
    assert imported(coordinator, stick) == [Outcome(sha256, "accepted", "")]


def test_what_else_lies_on_a_stick_is_left_alone(
    coordinator: Coordinator, study: Study, site: Home, stick: Path
) -> None:
    sha256 = sealed(site, study)
    exported(site, stick)
    (stick / "bundles" / "..evil").mkdir()
    (stick / "bundles" / "autorun.inf").write_text("x")
    (stick / "bundles" / sha256.upper()).mkdir()
    (bundle_on_only := stick / "bundles" / sha256 / "objects" / ("b" * 64 + ".png")).write_bytes(b"not named")
    assert imported(coordinator, stick) == [Outcome(sha256, "accepted", "")]
    assert bundle_on_only.stem not in coordinator.stored_objects()


def resigned(site: Home, study: Study, stick: Path, signer: Home | None, name: str) -> str:
    """A bundle that says it is `name`'s, signed by somebody."""
    entries, objects = png_objects([noise_pair(5)])
    manifest = manifest_of(study, name, entries)
    sha256 = make_sealed(site, manifest, objects)
    key = signing_key(signer) if signer else new_signing_key()
    (site.outbox / sha256 / "manifest.sig").write_bytes(sign(key, "manifest", canonical(manifest)))
    exported(site, stick)
    return sha256


def test_another_sites_signature_or_a_strangers_is_refused(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path, stick: Path
) -> None:
    harbour = coordinator.join(tmp_path / "harbour", "harbour")
    resigned(site, study, stick, harbour, "north")
    assert [outcome.code for outcome in imported(coordinator, stick)] == ["trust.signature"]
    resigned(harbour, study, tmp_path / "second", None, "harbour")
    assert [outcome.code for outcome in imported(coordinator, tmp_path / "second")] == ["trust.signature"]
    resigned(harbour, study, tmp_path / "third", harbour, "nowhere")
    assert "site.unknown" in [outcome.code for outcome in imported(coordinator, tmp_path / "third")]
    assert coordinator.accepted() == []
    assert list((coordinator.folder / "incoming").iterdir()) == []


def test_what_admission_refuses_goes_into_the_same_quarantine(
    coordinator: Coordinator, study: Study, site: Home, stick: Path
) -> None:
    line, objects = raw_entry(b"no PNG, but as long as one has to be, at the very least")
    sha256 = make_sealed(site, manifest_of(study, "north", (line,)), objects)
    exported(site, stick)
    assert imported(coordinator, stick)[0].code == "pairs.not-png"
    assert (coordinator.folder / "quarantine" / sha256 / "manifest.json").exists()
    assert imported(coordinator, stick)[0].code == "admission.quarantined"
    assert outbox_state(site, sha256) == ("sending", "")


@pytest.mark.parametrize("forgery", ["a stranger's key", "another bundle's", "changed", "too long", "a link"])
def test_a_forged_receipt_is_not_believed(
    coordinator: Coordinator, study: Study, site: Home, stick: Path, forgery: str
) -> None:
    sha256, other = sealed(site, study), sealed(site, study, 8, 9)
    exported(site, stick)
    imported(coordinator, stick)
    payload, signature = (stick / "receipts" / f"{sha256}.{end}" for end in ("json", "sig"))
    if forgery == "a stranger's key":
        signature.write_bytes(sign(new_signing_key(), "receipt", payload.read_bytes()))
    elif forgery == "another bundle's":
        for path in (payload, signature):
            shutil.copy(stick / "receipts" / f"{other}{path.suffix}", path)
    elif forgery == "changed":
        flipped(payload)
    elif forgery == "too long":
        signature.write_bytes(signature.read_bytes() + b"x")
    else:
        moved_and_linked(payload)
    found = {read.bundle_sha256: read.code for read in returned(site, stick)}
    assert found[other] == ""
    assert found[sha256] in ("trust.signature", "portable.file")
    assert outbox_state(site, sha256) == ("sending", "")


def test_a_stick_of_another_site_settles_nothing_here(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path, stick: Path
) -> None:
    sealed(site, study)
    exported(site, stick)
    imported(coordinator, stick)
    assert returned(coordinator.join(tmp_path / "harbour", "harbour"), stick) == []


def test_an_outbox_that_has_changed_is_not_exported(study: Study, site: Home, stick: Path) -> None:
    sha256 = sealed(site, study)
    flipped(sorted((site.outbox / sha256 / "objects").iterdir())[0])
    with refused("storage.damaged"):
        exported(site, stick)
    assert list((stick / "bundles").iterdir()) == []


def test_the_three_commands(coordinator: Coordinator, study: Study, site: Home, stick: Path) -> None:
    home = CoordinatorHome(coordinator.folder)
    home.create(Settings(name="trial"))
    save_key(home.keys / "signing.key", coordinator.key)
    sealed(site, study)

    def run(app: object, *arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])  # type: ignore[arg-type]
        return done.exit_code, done.output

    code, said = run(coordinator_app, "import", stick, "--home", home.path)
    assert code == ExitCode.INPUT, "there is nothing yet"
    code, said = run(site_app, "export", "--to", stick, "--home", site.path)
    assert (code, "1 bundles" in said) == (0, True)
    code, said = run(coordinator_app, "import", stick, "--home", home.path)
    assert (code, "1 bundles accepted" in said) == (0, True)
    code, said = run(site_app, "receipts", stick, "--home", site.path)
    assert (code, "1 receipts taken" in said) == (0, True)
