"""Weights as arrays: a digest that notices everything, and a file that is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SynthwardError
from shared.weights import Arrays, digest, load_arrays, pack, save_arrays, unpack


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


LAYOUTS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=6),
    st.tuples(st.sampled_from(("float32", "int64")), st.lists(st.integers(0, 3), max_size=3).map(tuple)),
    min_size=1,
    max_size=8,
)


@given(LAYOUTS)
def test_packed_weights_come_back_by_the_receivers_layout(layout: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    arrays = {name: np.arange(np.prod(shape), dtype=kind).reshape(shape) for name, (kind, shape) in layout.items()}
    back = unpack(pack(arrays), layout)
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[name], arrays[name]) and back[name].dtype == arrays[name].dtype for name in arrays)


@pytest.mark.parametrize("change", ["shorter", "longer", "another type", "one missing"])
def test_packed_weights_of_another_network_are_refused(change: str) -> None:
    layout = {"a": ("float32", (2, 3)), "n": ("int64", ())}
    packed = pack({"a": np.ones((2, 3), np.float32), "n": np.array(1, np.int64)})
    if change == "shorter":
        packed["float32"] = packed["float32"][:-1]
    elif change == "longer":
        packed["float32"] = np.append(packed["float32"], np.float32(1))
    elif change == "another type":
        packed["float32"] = packed["float32"].astype(np.float64)
    else:
        del packed["int64"]
    with pytest.raises(SynthwardError) as caught:
        unpack(packed, layout)
    assert caught.value.code == "weights.mismatch"
