"""What a receiver is told of releases that were taken back: by the two commands, on files alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.datasets.verify import verify_export
from coordinator.settings import Home, Settings
from coordinator.store.checkpoints import Heads, Told, exchange
from shared.checkpoint import EMPTY, Checkpoint, Head
from shared.documents import canonical
from shared.errors import ExitCode
from shared.identity import new_signing_key, public_bytes, save_key
from shared.png import encode_png
from shared.revocation import RevocationList, read_list
from tests.enrolled_site import POLICY, EnrolledSite
from tests.helpers import Coordinator, noise_pair, refused, small_study


@dataclass
class Shared:
    """A coordinator with a folder for its commands, a dataset of one release, and a receiver's copy of it."""

    coordinator: Coordinator
    home: Home
    north: EnrolledSite
    release_id: str
    copy: Path

    def run(self, *words: str, home: bool = True) -> Result:
        """One command of the coordinator's, with --json."""
        where = ["--home", str(self.home.path)] if home else []
        return CliRunner().invoke(app, [*words, *where, "--json"])

    def told(self, *words: str) -> dict[str, Any]:
        """What a command that succeeds says."""
        ended = self.run(*words)
        assert ended.exit_code == 0, ended.output
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer

    def revoked(self) -> Path:
        """The release is taken back; the signed list as a receiver gets it."""
        self.north.airlock.revoke(POLICY, self.release_id, "ada", "consent withdrawn")
        self.north.turn()
        return self.listed()

    def listed(self) -> Path:
        """The signed list of now, in a file."""
        ended = CliRunner().invoke(app, ["revocations", "--home", str(self.home.path)])
        path = self.home.path.parent / "revocations"
        path.write_text(ended.stdout)
        return path

    @property
    def key(self) -> str:
        return public_bytes(self.coordinator.key.public_key()).hex()

    def verify(self, *words: str) -> Result:
        """What a receiver runs: without the coordinator's folder."""
        return self.run("dataset", "verify", str(self.copy), *words, home=False)


@pytest.fixture
def shared(coordinator: Coordinator, tmp_path: Path) -> Shared:
    home = Home(coordinator.folder)
    home.create(Settings(name="test"))
    save_key(home.keys / "signing.key", coordinator.key)
    study = coordinator.publish(small_study())
    north = EnrolledSite.join(coordinator, tmp_path / "north", "north")
    release = north.accepted(study)
    made = Shared(coordinator, home, north, release.release_id, tmp_path / "copy")
    made.told("dataset", "build", study.study_id)
    made.told("dataset", "export", study.study_id, str(made.copy))
    return made


def error_code(ended: Result) -> str:
    """The code on standard error of a command that failed."""
    return str(json.loads(ended.stderr.strip().splitlines()[-1])["error"]["code"])


def test_an_unchanged_copy_of_releases_that_stand_is_fine(shared: Shared) -> None:
    ended = shared.verify()
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["none_revoked_as_of"] == "not asked"
    ended = shared.verify("--revocations", str(shared.listed()), "--coordinator-key", shared.key)
    assert ended.exit_code == 0, ended.output
    stated = (shared.copy / "README.txt").read_text()
    assert json.loads(ended.stdout)["sha256"] in stated
    assert "dataset verify FOLDER --revocations" in stated


def test_a_copy_that_holds_a_revoked_release_says_which(shared: Shared) -> None:
    (bundle,) = shared.coordinator.accepted()
    ended = shared.verify("--revocations", str(shared.revoked()), "--coordinator-key", shared.key)
    assert ended.exit_code == ExitCode.STATE
    assert error_code(ended) == "dataset.revoked"
    assert bundle in ended.stderr
    assert "consent" not in shared.listed().read_text()


def test_an_older_version_is_not_handed_on_again(shared: Shared, tmp_path: Path) -> None:
    shared.revoked()
    (site,) = shared.told("study", "status", "trial")["sites"]
    assert (site["bundles"], site["revoked"]) == (0, 1)
    ended = shared.run("dataset", "export", "trial", str(tmp_path / "another"))
    assert error_code(ended) == "dataset.revoked"
    assert not (tmp_path / "another").exists()
    assert error_code(shared.run("dataset", "build", "trial")) == "dataset.empty"


def test_a_list_of_somebody_else_or_a_changed_one_is_not_believed(shared: Shared) -> None:
    path = shared.revoked()
    stranger = public_bytes(new_signing_key().public_key()).hex()
    assert error_code(shared.verify("--revocations", str(path), "--coordinator-key", stranger)) == "trust.signature"
    document, signature = path.read_text().splitlines()
    emptied = canonical(RevocationList.model_validate_json(document).model_copy(update={"revoked": ()})).decode()
    for text, code in (
        (f"{emptied}\n{signature}\n", "trust.signature"), (f"{document}\n", "document.malformed"),
        ("nothing", "document.malformed"), (f"{document}\nno hexadecimal", "document.malformed"),
    ):  # fmt: skip
        path.write_text(text)
        assert error_code(shared.verify("--revocations", str(path), "--coordinator-key", shared.key)) == code


def test_a_list_without_the_key_proves_nothing_and_is_refused(shared: Shared) -> None:
    assert error_code(shared.verify("--revocations", str(shared.listed()))) == "settings.invalid"
    assert error_code(shared.verify("--coordinator-key", shared.key)) == "settings.invalid"
    assert error_code(shared.verify("--revocations", "nowhere", "--coordinator-key", shared.key)) == "settings.invalid"
    assert error_code(shared.verify("--revocations", str(shared.listed()), "--coordinator-key", "no hexadecimal")) == (
        "settings.invalid"
    )


def test_the_list_comes_back_as_it_was_written(shared: Shared) -> None:
    (bundle,) = shared.coordinator.accepted()
    told = read_list(shared.coordinator.key.public_key(), shared.revoked().read_text())
    assert [(line.bundle_sha256, line.site) for line in told.revoked] == [(bundle, "north")]


def another_picture(copy: Path) -> None:
    (copy / "images" / "north-00001.png").write_bytes(encode_png(noise_pair(99).image))


def one_more(copy: Path) -> None:
    (copy / "masks" / "note.txt").write_text("x")


def one_less(copy: Path) -> None:
    (copy / "masks" / "north-00002.png").unlink()


def a_line_less(copy: Path) -> None:
    lines = (copy / "index.csv").read_text().splitlines(keepends=True)
    (copy / "index.csv").write_text("".join(lines[:-1]))


def no_index(copy: Path) -> None:
    (copy / "index.csv").unlink()


def names_swapped(copy: Path) -> None:
    text = (copy / "index.csv").read_text()
    (copy / "index.csv").write_text(text.replace("north-00002", "north-00001"))


def a_patient_more(copy: Path) -> None:
    (copy / "dataset.json").write_bytes((copy / "dataset.json").read_bytes().replace(b'"site":"north"', b'"site":"n"'))


@pytest.mark.parametrize(
    "damage", [another_picture, one_more, one_less, a_line_less, no_index, names_swapped, a_patient_more]
)
def test_any_change_of_a_copy_is_found(shared: Shared, damage: Callable[[Path], None]) -> None:
    verify_export(shared.copy)
    damage(shared.copy)
    ended = shared.verify()
    assert ended.exit_code == ExitCode.INPUT
    assert error_code(ended) == "dataset.damaged"


def test_the_coordinators_verify_tells_its_key_and_of_a_rollback(shared: Shared) -> None:
    assert shared.told("verify")["coordinator_key"] == shared.key
    unknown = Checkpoint(site="north", coordinator=Head(entries=10_000, sha256="e" * 64), link=EMPTY, trainer=EMPTY)
    store = shared.coordinator.store
    exchange(store, store.site("north"), Told(Heads(), unknown, rolled_back=False))
    ended = shared.run("verify")
    assert ended.exit_code == ExitCode.TRUST
    assert error_code(ended) == "trust.rollback"
    with refused("dataset.damaged"):
        verify_export(shared.home.path)
