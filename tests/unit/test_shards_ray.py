"""A Ray cluster of two nodes on loopback trains what one process trains, to the bit, and keeps to the same rules."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import SynthwardError
from site_node.work.case_training import Ending, Task, Tell, train_one
from site_node.work.machine import Workers
from site_node.work.ray_cluster import _pick_device
from site_node.work.time_left import TrainingProgress
from site_node.work.train_cases import train_cases
from tests.training_cases import TINY, generators, write_cases

_STORE_BYTES = 80 * 2**20
_ATTEMPTS = 3


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each, on loopback, without dashboard and usage statistics."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # As on the systems of that name, Ray then keeps to loopback and does not look for an outward address.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    two = _two_nodes()
    try:
        yield two
    finally:
        two.shutdown()


def _two_nodes() -> Any:
    """Ray gives up on a node that has not come up within 30 s, as happens on a busy machine: once more, then."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "node_ip_address": "127.0.0.1"}
    for attempt in range(_ATTEMPTS):
        two = Cluster()
        try:
            two.add_node(**node, include_dashboard=False)
            two.add_node(**node)
        except Exception:
            two.shutdown()
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return two
    raise AssertionError("unreachable")


def train_and_note(task: Task, tell: Tell) -> Ending:
    """Notes on which node a case trains; the first try of "b" ends as when memory runs out."""
    import ray

    notes = task.folder.parent / "nodes"
    notes.mkdir(exist_ok=True)
    note = notes / task.case.case_id
    tried_before = note.exists()
    note.write_text(ray.get_runtime_context().get_node_id())
    if task.case.case_id == "b" and not tried_before:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_one(task, tell)


def test_two_nodes_train_what_one_process_trains_to_the_bit(cluster: Any, tmp_path: Path) -> None:
    items = write_cases(tmp_path / "cases", "a", "b", "flat", "c")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = train_cases(
        items, TINY, folder=tmp_path / "here", settings=Workers(workers=1, device="cpu"), progress=lambda _: None
    )
    torch.set_num_threads(before)
    told: list[TrainingProgress] = []
    outcome = train_cases(
        items,
        TINY,
        folder=tmp_path / "there",
        settings=Workers(ray_address=cluster.address),
        progress=told.append,
        train=train_and_note,
    )
    assert outcome == alone
    assert outcome.trained == ("a", "b", "c")
    assert outcome.set_aside == {"flat": "training.constant-image"}
    assert generators(tmp_path / "there") == generators(tmp_path / "here")
    assert len({note.read_text() for note in (tmp_path / "nodes").iterdir()}) == 2, "both nodes trained"
    assert told[-1].done == 4
    assert told[-1].workers == 2
    assert any(now.scales for now in told), "a case on a node tells how far it is"


def test_where_ray_is_not_installed_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    items = write_cases(tmp_path / "cases", "a")
    with pytest.raises(SynthwardError) as caught:
        train_cases(items, TINY, folder=tmp_path, settings=Workers(ray_address="auto"), progress=lambda _: None)
    assert caught.value.code == "training.ray-missing"
    assert "synthward[ray]" in caught.value.do


def test_a_cluster_that_does_not_answer_is_told_as_that(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    items = write_cases(tmp_path / "cases", "a")
    with pytest.raises(SynthwardError) as caught:
        train_cases(items, TINY, folder=tmp_path, settings=Workers(ray_address=address), progress=lambda _: None)
    assert caught.value.code == "unavailable.service"
    assert "ray start" in caught.value.do


def test_a_card_is_taken_where_the_cluster_has_one_and_missed_where_it_is_asked_for() -> None:
    assert _pick_device("auto", cards=0) == "cpu"
    assert _pick_device("auto", cards=2) == "cuda"
    assert _pick_device("cpu", cards=2) == "cpu"
    assert _pick_device("cuda:1", cards=2) == "cuda", "Ray shows a task the one card that is its own"
    with pytest.raises(SynthwardError) as caught:
        _pick_device("cuda", cards=0)
    assert caught.value.code == "training.device"
