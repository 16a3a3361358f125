"""python -m tests.benchmarks NAME: runs one benchmark and writes build/bench/NAME.json."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import demo
from tests.benchmarks.harness import Claim, Row, write

BENCHMARKS: dict[str, Callable[[], tuple[list[Row], list[Claim]]]] = {"demo": demo.measure}


def main() -> int:
    """0 when the benchmark ran, whether or not its claims are met."""
    if len(sys.argv) != 2 or sys.argv[1] not in BENCHMARKS:
        sys.stderr.write(f"name a benchmark: make bench NAME={'|'.join(BENCHMARKS)}\n")
        return 2
    name = sys.argv[1]
    sys.stdout.write(f"written: {write(name, *BENCHMARKS[name]())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
