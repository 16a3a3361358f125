"""deploy/digests/ has every package that is installed but two, and deploy/wheelhouse.sh takes no other archive."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.version import Version

from deploy.digests.__main__ import entry, read
from deploy.digests.groups import GROUPS, WITHOUT_DIGEST, grouped, needed, pins

ROOT = Path(__file__).resolve().parents[2]
PINS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
LISTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "deploy" / "digests").glob("*.txt"))}


def test_every_package_but_two_is_on_one_list_at_its_version_and_nothing_else_is() -> None:
    listed = [name_and_version for text in LISTS.values() for name_and_version in read(text)]
    assert sorted(listed) == sorted(
        (name, line.partition("==")[2]) for name, line in PINS.items() if name not in WITHOUT_DIGEST
    )
    assert all(len(digests) >= 1 for text in LISTS.values() for digests in read(text).values())


@pytest.mark.parametrize("group", LISTS)
def test_a_list_has_nothing_but_versions_and_digests(group: str) -> None:
    lines = LISTS[group].replace(" \\\n", " ").splitlines()
    assert lines[0].startswith("# Written by")
    assert [
        line for line in lines[1:] if not re.fullmatch(r"[\w.-]+==[\w.]+( +--hash=sha256:[0-9a-f]{64})+", line)
    ] == []


def test_each_list_has_what_its_extras_need() -> None:
    found = {group: [name for name, _version in read(LISTS[group])] for group in LISTS}
    assert found == grouped(PINS)
    assert found["synthward"]
    assert "psycopg" in found["extras"]
    assert "pytest" in found["development"]


def test_a_dependency_without_a_version_is_noticed() -> None:
    with pytest.raises(ValueError, match="uv"):
        grouped({name: line for name, line in PINS.items() if name != "uv"})


def test_what_is_installed_has_the_version_that_is_stated() -> None:
    wrong = {}
    for name in needed([extra for extras in GROUPS.values() for extra in extras]):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another Python or machine
        if Version(version).public != PINS[name].partition("==")[2]:
            wrong[name] = version
    assert wrong == {}


# The wheelhouse, of a checkout whose packages are empty


@dataclass(frozen=True)
class Checkout:
    """A checkout with lists of its own, and the folder whose wheels its index offers."""

    root: Path
    index: Path

    def fill(self, *requirements: str) -> tuple[subprocess.CompletedProcess[str], dict[str, bytes]]:
        """How wheelhouse.sh ended, and what it put into the folder."""
        folder = self.root / "filled"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        place = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": self.offered().as_uri()}
        environment = kept | place | {"PYTHON": sys.executable}
        argv = ["sh", str(self.root / "deploy" / "wheelhouse.sh"), str(folder), *requirements]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        return done, {path.name: path.read_bytes() for path in folder.iterdir()}

    def offered(self) -> Path:
        """The index: a page a package, with each file's digest as it is now."""
        for path in sorted(self.index.glob("*.whl")):
            page = self.index / path.name.partition("-")[0] / "index.html"
            page.parent.mkdir(exist_ok=True)
            with page.open("a", encoding="utf-8") as links:
                links.write(f'<a href="{path.as_uri()}#sha256={digest(path.read_bytes())}">{path.name}</a>\n')
        return self.index


def wheel(folder: Path, name: str, version: str, needs: Sequence[str] = (), build: str = "") -> Path:
    """Writes an empty package; `build` makes pip prefer it to one of the same version."""
    path = folder / f"{name}-{version}{build}-py3-none-any.whl"
    required = "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(path, "w") as archive:
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n{build}")
        archive.writestr(f"{info}/RECORD", "")
    return path


BACKEND = """
import pathlib, shutil
def build_wheel(folder, config_settings=None, metadata_directory=None):
    (ours,) = pathlib.Path(__file__).parent.glob("*.whl")
    return pathlib.Path(shutil.copy(ours, folder)).name
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Synthward needs `small` and torch; torch needs `small` too."""
    root, index = tmp_path / "checkout", tmp_path / "index"
    for folder in (root / "deploy" / "digests", root / "shared", root / "site_node", root / "coordinator", index):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "wheelhouse.sh", root / "deploy")
    (root / "README.md").touch()
    (root / "LICENSE").touch()
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["shared"]\n', encoding="utf-8"
    )
    (root / "shared" / "backend.py").write_text(BACKEND, encoding="utf-8")
    wheel(root / "shared", "synthward", "0.1.0", ["small", "torch", "torchvision"])
    (root / "constraints.txt").write_text("small==1.0\ntorch==2.0\ntorchvision==0.1\n", encoding="utf-8")
    for version in ("2.0", "2.1"):
        wheel(index, "torch", version, ["small"])
    wheel(index, "torchvision", "0.1", ["torch"])
    fixed = [wheel(index, "setuptools", "99.0"), wheel(index, "small", "1.0")]
    text = "".join(entry("==".join(path.name.split("-")[:2]), [digest(path.read_bytes())]) for path in fixed)
    (root / "deploy" / "digests" / "synthward.txt").write_text(text, encoding="utf-8")
    return Checkout(root, index)


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def test_the_wheelhouse_takes_the_build_that_is_listed_though_the_index_prefers_another(checkout: Checkout) -> None:
    listed = (checkout.index / "small-1.0-py3-none-any.whl").read_bytes()
    wheel(checkout.index, "small", "1.0", build="-9")

    done, filled = checkout.fill()
    assert done.returncode == 0, done.stderr
    names = {"small-1.0", "synthward-0.1.0", "torch-2.0", "torchvision-0.1"}
    wheels = {name: data for name, data in filled.items() if name.endswith(".whl")}
    assert wheels.keys() == {f"{name}-py3-none-any.whl" for name in names}
    assert wheels["small-1.0-py3-none-any.whl"] == listed
    assert filled["requirements.txt"].decode().splitlines() == [
        f"{'=='.join(name.split('-')[:2])} --hash=sha256:{digest(data)}" for name, data in sorted(wheels.items())
    ]
    assert {line.split()[1] for line in filled["SHA256SUMS"].decode().splitlines()} == {*wheels, "requirements.txt"}

    again, unchanged = checkout.fill()
    assert again.returncode == 2
    assert unchanged == filled


def test_the_wheelhouse_refuses_an_archive_that_is_not_the_one_on_the_list(checkout: Checkout) -> None:
    path = checkout.index / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("small.py", "import os")
    done, filled = checkout.fill()
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert filled == {}


def test_the_wheelhouse_takes_nothing_unlisted_because_torch_asks_for_it(checkout: Checkout) -> None:
    wheel(checkout.index, "torch", "2.0", ["small", "unknown"])
    wheel(checkout.index, "unknown", "1.0")
    done, filled = checkout.fill()
    assert done.returncode != 0
    assert "unknown" in done.stderr
    assert not [name for name in filled if name.startswith("unknown")]
