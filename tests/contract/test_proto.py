"""The generated wire files are those of the .proto file: what is reviewed is what runs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTO = "shared/wire/synthward.proto"
GENERATED = ("synthward_pb2.py", "synthward_pb2.pyi", "synthward_pb2_grpc.py")


def generate(root: Path, target: Path) -> None:
    """Runs protoc as `make proto` does, from root into target."""
    include = resources.files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    assert protoc.main(["protoc", f"-I{root}", f"-I{include}", *outputs, str(root / PROTO)]) == 0


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of freshly generated files."""
    target = tmp_path_factory.mktemp("proto")
    generate(ROOT, target)
    return target / "shared" / "wire"


@pytest.mark.parametrize("name", GENERATED)
def test_the_committed_file_is_the_generated_one(fresh: Path, name: str) -> None:
    committed = (ROOT / "shared" / "wire" / name).read_bytes()
    assert committed == (fresh / name).read_bytes(), "run: make proto"


def test_nothing_else_is_generated(fresh: Path) -> None:
    assert {path.name for path in fresh.iterdir()} == set(GENERATED)


def test_a_changed_proto_file_is_noticed(tmp_path: Path) -> None:
    changed = tmp_path / "root" / PROTO
    changed.parent.mkdir(parents=True)
    text = (ROOT / PROTO).read_text(encoding="utf-8")
    changed.write_text(text.replace("uint64 stored_objects = 1;", "uint64 stored_objects = 2;"), encoding="utf-8")
    (tmp_path / "out").mkdir()
    generate(tmp_path / "root", tmp_path / "out")
    committed = (ROOT / "shared" / "wire" / "synthward_pb2.py").read_bytes()
    assert (tmp_path / "out" / "shared" / "wire" / "synthward_pb2.py").read_bytes() != committed
