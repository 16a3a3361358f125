"""Weights as arrays: a digest that notices everything, and a file that is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.errors import SynthwardError
from shared.weights import Arrays, digest, load_arrays, save_arrays


def arrays() -> dict[str, np.ndarray]:
    return {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b.count": np.array(7, dtype=np.int64),
    }


def changed(name: str, array: np.ndarray) -> Arrays:
    return {**arrays(), name: array}


@pytest.mark.parametrize(
    "other",
    [
        {"a.weight": arrays()["a.weight"]},
        changed("c", np.zeros(0, dtype=np.float32)),
        {"a.weight2": arrays()["a.weight"], "b.count": arrays()["b.count"]},
        changed("a.weight", arrays()["a.weight"].reshape(3, 2)),
        changed("a.weight", arrays()["a.weight"].astype(np.float64)),
        changed("a.weight", np.nextafter(arrays()["a.weight"], np.float32(9), dtype=np.float32)),
        changed("a.weight", arrays()["a.weight"].T),
        changed("b.count", np.array([7], dtype=np.int64)),
        changed("b.count", np.array(7, dtype=np.uint64)),
    ],
    ids=["missing", "further", "name", "shape", "type", "value", "transposed", "rank", "sign"],
)
def test_the_digest_changes_with_any_change(other: Arrays) -> None:
    assert digest(other) != digest(arrays())


def test_the_digest_is_of_the_values_not_of_their_order_layout_or_byte_order() -> None:
    weight = arrays()["a.weight"]
    same = {"b.count": arrays()["b.count"].astype(">i8"), "a.weight": np.asfortranarray(weight)}
    assert digest(same) == digest(arrays())
    assert len(digest(same)) == 64


def test_what_is_not_a_plain_number_is_refused() -> None:
    with pytest.raises(SynthwardError) as refusal:
        digest({"a": np.array(["text"])})
    assert refusal.value.code == "weights.mismatch"


def test_arrays_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    kept = {**arrays(), "turned": arrays()["a.weight"].T, "empty": np.zeros((0, 3), dtype=np.float32)}
    save_arrays(path, kept)
    back = load_arrays(path)
    assert digest(back) == digest(kept)
    assert {name: (array.shape, array.dtype) for name, array in back.items()} == {
        name: (array.shape, array.dtype) for name, array in kept.items()
    }


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "header"])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_arrays(path, arrays())
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-1], "text": b"weights", "empty": b"", "header": b"\xff" * 8 + whole[8:]}[damage])
    with pytest.raises(SynthwardError) as refusal:
        load_arrays(path)
    assert refusal.value.code == "storage.damaged"
    assert refusal.value.do


def test_a_process_without_torch_can_check_weights() -> None:
    code = "import sys, shared.weights; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
