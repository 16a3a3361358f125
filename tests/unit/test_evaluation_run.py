"""An evaluation trains ahead: the next network while the last one travels, and answers in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from coordinator.evaluation.run import ahead


def test_items_come_in_order_and_whole() -> None:
    assert [item for item in ahead(iter(range(20))) if item is not None] == list(range(20))


def test_while_the_next_item_is_being_made_the_caller_can_do_something_else() -> None:
    go = threading.Event()

    def slow() -> Iterator[str]:
        yield "first"
        go.wait()
        yield "second"

    seen = []
    for item in ahead(slow(), patience_s=0.01):
        seen.append(item)
        if item is None:
            go.set()
    assert seen[0] == "first"
    assert seen[-1] == "second"
    assert None in seen


@pytest.mark.parametrize("error", [ValueError("diverged"), TimeoutError("diverged")])
def test_an_error_in_making_an_item_reaches_the_caller(error: Exception) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise error

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(type(error), match="diverged"):
        list(items)
