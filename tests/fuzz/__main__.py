"""Runs the fuzzer over all targets, or over one, and says how much it tried and what it found.

    python -m tests.fuzz [--minutes M] [--target NAME]

Each target runs in a process of its own for its share of the minutes. It starts from tests/fuzz/corpus/NAME, keeps what
it learns in build/fuzz/NAME, and what ends with anything but a code in build/fuzz/NAME-found. Exit code 1: it found
something. Needs the extra `fuzz` (atheris).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = Path("build/fuzz")
NAMES = ("documents", "manifest", "pngs", "arrays", "orders", "portable")
_SECONDS_OF_ONE = 20  # that an input may take before it counts as a finding
_MOST_MB = 2048  # that the process may have
_LONGEST = 32 * 1024


def main() -> int:
    """All targets in turn, or this process as the fuzzer of one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for all targets together")
    parser.add_argument("--target", choices=NAMES, help="this one alone, for all the minutes")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = (options.target,) if options.target else NAMES
    seconds = max(1, round(60 * options.minutes / len(chosen)))
    if options.inside:
        fuzz(options.target, seconds)
    return max(run(name, seconds) for name in chosen)


def run(name: str, seconds: int) -> int:
    """Fuzzes one target and prints a line about it; 1 when something was found."""
    found = BUILD / f"{name}-found"
    found.mkdir(parents=True, exist_ok=True)
    (BUILD / name).mkdir(exist_ok=True)
    before = set(found.iterdir())
    command = [sys.executable, "-m", "tests.fuzz", "--inside", "--target", name, "--minutes", str(seconds / 60)]
    with (BUILD / f"{name}.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    text = (BUILD / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    executions = re.findall(r"^Done (\d+) runs|^#(\d+)", text, re.M)
    last = "".join(executions[-1]) if executions else "0"
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    new = sorted(str(path) for path in set(found.iterdir()) - before)
    edges, features, kept = covered[-1] if covered else ("0", "0", "0")
    print(  # noqa: T201
        f"{name}: {last} inputs in {seconds} s, {edges} edges, {features} features, {kept} inputs kept, "
        + (f"FOUND {', '.join(new)}" if new else "nothing found" if code == 0 else f"ended with {code}: see the log"),
        flush=True,
    )
    return int(bool(new) or code != 0)


def fuzz(name: str, seconds: int) -> None:
    """This process becomes the fuzzer of one target; it does not return."""
    import atheris

    with atheris.instrument_imports(include=["shared", "coordinator", "site_node", "rfc8785", "PIL", "numpy.lib"]):
        from tests.fuzz.targets import TARGETS, words
    dictionary = BUILD / "words.dict"
    dictionary.write_text("".join(f'"{word}"\n' for word in words()), encoding="ascii")
    argv = [
        sys.argv[0], str(BUILD / name), str(HERE / "corpus" / name), f"-artifact_prefix={BUILD / f'{name}-found'}/",
        f"-max_total_time={seconds}", f"-timeout={_SECONDS_OF_ONE}", f"-rss_limit_mb={_MOST_MB}",
        f"-max_len={_LONGEST}", f"-dict={dictionary}", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup(argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
