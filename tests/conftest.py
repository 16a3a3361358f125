"""Fixtures for tests of both sides: a coordinator on loopback, and retries without pauses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina
import torch
from hypothesis import settings

from tests.helpers import Coordinator, running

# Machines are shared: how long an example takes says nothing of the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    """A coordinator whose services run until the test ends."""
    with running(Coordinator(tmp_path / "coordinator")) as started:
        yield started


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On several threads sums may be taken in another order, and bits differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Retries happen at once, as often as the code asks for: nothing sleeps."""
    with stamina.set_testing(True, attempts=5, cap=True):
        yield
