"""How the options of a benchmark are read from its command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


def integers(text: str) -> tuple[int, ...]:
    """Of "64,128" or "64 128". Raises ValueError, which argparse reports."""
    return tuple(int(part) for part in _listed(text))


def numbers(text: str) -> tuple[float, ...]:
    """Of "1,3,8". Raises ValueError, which argparse reports."""
    return tuple(float(part) for part in _listed(text))


def some_of(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads a list of these names; refuses any other one, and says which there are."""

    def read(text: str) -> tuple[str, ...]:
        named = tuple(_listed(text))
        if unknown := set(named) - set(names):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(names)}")
        return named

    return read


def read_into(kind: type[Options], namespace: argparse.Namespace) -> Options:
    """The options of a dataclass among those that were parsed; those without an argument keep their default."""
    names = {field.name for field in fields(kind)}
    values: dict[str, Any] = {name: value for name, value in vars(namespace).items() if name in names}
    return kind(**values)


def _listed(text: str) -> list[str]:
    return text.replace(",", " ").split()
