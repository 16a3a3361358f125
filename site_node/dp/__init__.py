"""Differential privacy at a site: what was spent (ledger), how much that is (accountant), and what it buys."""

from __future__ import annotations


def dp_available() -> bool:
    """Whether this version has a generator that can be trained with differential privacy."""
    return False
