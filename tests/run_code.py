"""Runs the Python code in its argument: for tests that need a process of their own, started by a module's name."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    exec(compile(sys.argv[1], "code", "exec"), {"__name__": "__main__"})  # noqa: S102 - the test's own code
