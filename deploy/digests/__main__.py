"""Asks the package index for the digests of every file of every pinned release, and writes the lists anew.

    python -m deploy.digests PIP_COMPILE

PIP_COMPILE is pip-tools' program, which takes its index from pip's own configuration. Every version is given, so the
same constraints.txt gives the same bytes, until somebody adds a file to a release.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import canonicalize_name

from deploy.digests.groups import WITHOUT_DIGEST, grouped, pins

_ROOT = Path(__file__).resolve().parents[2]
_HEAD = (
    "# Written by `make digests` from constraints.txt: every file that the index has of a release, for any system.\n"
)
_OPTIONS = (
    "--quiet", "--generate-hashes", "--strip-extras", "--no-header", "--no-annotate", "--no-emit-options",
)  # fmt: skip


def main(pip_compile: str) -> None:
    """Writes deploy/digests/*.txt."""
    pinned = pins((_ROOT / "constraints.txt").read_text(encoding="utf-8"))
    lists = grouped(pinned)
    digests = asked(pip_compile, [line for name, line in pinned.items() if name not in WITHOUT_DIGEST])
    for group, names in lists.items():
        text = _HEAD + "".join(entry(pinned[name], digests[name, version_of(pinned[name])]) for name in names)
        (_ROOT / "deploy" / "digests" / f"{group}.txt").write_text(text, encoding="utf-8")
        print(f"{group}.txt: {len(names)} packages")


def asked(pip_compile: str, lines: list[str]) -> dict[tuple[str, str], list[str]]:
    """(normalised name, version) -> SHA-256 of its files, sorted; of these and of all that they need.

    pip-tools warns that torch has none: that is meant.
    """
    unsafe = [f"--unsafe-package={name}" for name in WITHOUT_DIGEST]
    with tempfile.TemporaryDirectory() as folder:
        wanted, found = Path(folder) / "wanted.in", Path(folder) / "found.txt"
        wanted.write_text("\n".join(lines), encoding="utf-8")
        argv = [pip_compile, *_OPTIONS, *unsafe, "--output-file", str(found), str(wanted)]
        subprocess.run(argv, check=True)
        return read(found.read_text(encoding="utf-8"))


def read(text: str) -> dict[tuple[str, str], list[str]]:
    """(normalised name, version) -> SHA-256, sorted, of a list in pip's format."""
    entries = re.findall(r"^([\w.-]+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})*)$", text, re.M)
    return {(canonicalize_name(n), v): sorted(re.findall(r"[0-9a-f]{64}", hashes)) for n, v, hashes in entries}


def entry(line: str, digests: list[str]) -> str:
    """One requirement in pip's format. Raises ValueError where there is no digest."""
    if not digests:
        raise ValueError(f"the index has no digest of {line}")
    return " \\\n    ".join([line, *(f"--hash=sha256:{digest}" for digest in digests)]) + "\n"


def version_of(line: str) -> str:
    """The version in a line `name==version`."""
    return line.partition("==")[2]


if __name__ == "__main__":
    main(sys.argv[1])
