"""python -m tests.benchmarks NAME [options]: runs one benchmark and writes build/bench/NAME.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.benchmarks import demo, dp, federation, ingest, screening, singan, utility
from tests.benchmarks.harness import Claim, Row, write

BENCHMARKS: dict[str, Callable[[argparse.Namespace], tuple[list[Row], list[Claim]]]] = {
    "demo": lambda _: demo.measure(),
    "dp": lambda options: dp.measure(dp.options_of(options)),
    "federation": lambda options: federation.measure(federation.options_of(options)),
    "ingest": lambda options: ingest.measure(ingest.options_of(options)),
    "screening": lambda options: screening.measure(screening.options_of(options)),
    "singan": lambda options: singan.measure(singan.options_of(options)),
    "utility": lambda options: utility.measure(utility.options_of(options)),
}


def main() -> int:
    """0 when the benchmark ran, whether or not its claims are met; 2 for a name or an option that is not there."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    names = parser.add_subparsers(dest="name", required=True)
    by_name = {name: names.add_parser(name) for name in BENCHMARKS}
    dp.add_options(by_name["dp"])
    federation.add_options(by_name["federation"])
    ingest.add_options(by_name["ingest"])
    screening.add_options(by_name["screening"])
    singan.add_options(by_name["singan"])
    utility.add_options(by_name["utility"])
    options = parser.parse_args()
    sys.stdout.write(f"written: {write(options.name, *BENCHMARKS[options.name](options))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
