"""Files that are whole or not there, and folders that stay: what write_private and durable_folder promise."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from shared.files import durable_folder, write_private


@pytest.fixture(params=["links", "no links"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, also on a file system that has no hard links."""

    def refuse(_path: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    if request.param == "no links":
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    return tmp_path


def test_an_exclusive_file_is_written_once_for_its_owner_and_never_over_another(folder: Path) -> None:
    write_private(folder / "key", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_private(folder / "key", b"second", exclusive=True)
    assert (folder / "key").read_bytes() == b"first"
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_a_folder_is_made_with_those_above_it_and_made_again_is_itself(tmp_path: Path) -> None:
    wanted = tmp_path / "one" / "two" / "three"
    assert durable_folder(wanted) == durable_folder(wanted) == wanted
    assert wanted.is_dir()
