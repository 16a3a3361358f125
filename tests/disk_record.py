"""Records what a program does to the files below a folder: each name, each byte, each flushing, SQLite's own included.

By strace, so from below Python and from below C. What it cannot follow ends the recording with an error; whether it has
followed all is for the caller to ask, who compares what the record makes of the folder with what lies there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.power_cut import ROOT, Change, Flushed, Named, Record, Resized, Step, Told, Tree, Wrote

_OF_NAMES = ("rename", "link", "unlink", "unlinkat", "mkdir", "rmdir")
_FOLLOWED = (
    *_OF_NAMES, "openat", "close", "dup", "dup2", "dup3", "fcntl", "lseek", "write", "pwrite64", "sendfile",
    "ftruncate", "fsync", "fdatasync",
)  # fmt: skip
# Other ways to change a file. None of ours takes one; whoever does is to be told, not overlooked.
_NOT_FOLLOWED = (
    "open", "creat", "writev", "pwritev", "pwritev2", "copy_file_range", "truncate", "fallocate", "renameat",
    "renameat2", "linkat", "symlink", "symlinkat", "mkdirat", "sync_file_range", "splice",
)  # fmt: skip
_LONGEST_WRITE = 4 * 1024 * 1024
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)")
_PAUSED = re.compile(r"^(\d+) +(\w+\(.*) <unfinished \.\.\.>$")
_GOES_ON = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")


def need_strace() -> None:
    """Skips a test where nothing can be recorded; fails it where CI promises that."""
    found = shutil.which("strace")
    if found and subprocess.run([found, "-f", "true"], capture_output=True, check=False).returncode == 0:
        return
    if os.environ.get("CI"):
        pytest.fail("CI cannot record what a program writes: install Debian's package strace, and allow ptrace")
    pytest.skip("no strace that may trace: install Debian's package strace to test power cuts")


def record(program: Sequence[str], folder: Path, told: Path, scratch: Path) -> Record:
    """What a program did below folder, which is as it was before; each line that it writes into `told` is a word given.

    scratch: a folder for the trace.
    """
    reader = _Reader(folder, told)
    trace = scratch / "trace"
    calls = ",".join((*_FOLLOWED, *_NOT_FOLLOWED))
    ended = subprocess.run(
        ["strace", "--seccomp-bpf", "-f", "-xx", "-s", str(_LONGEST_WRITE), "-o", str(trace), "-e", f"trace={calls}",
         "-e", "signal=none", *program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    paused: dict[str, str] = {}
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            if found := _PAUSED.match(line):
                paused[found[1]] = found[2]
                continue
            if found := _GOES_ON.match(line):
                line = f"{found[1]} {paused.pop(found[1])}{found[2]}"
            if (found := _LINE.match(line)) and not found[4].startswith(("-", "?")):
                reader.read(found[2], found[3].split(", "), int(found[4]))
    return reader.finished()


@dataclass
class _Open:
    """An open file or folder, as several descriptors may share it."""

    node: int
    place: int = 0
    appends: bool = False


class _Reader:
    """Follows calls, one after the other. Knows at each moment what lies where."""

    def __init__(self, folder: Path, told: Path) -> None:
        self._folder, self._told = str(folder), str(told)
        self._tree = Tree({}, {ROOT: {}})
        self._places = {ROOT: ""}
        self._open: dict[int, _Open] = {}
        self._outside: set[int] = set()  # descriptors of `told`
        self._steps: list[Step] = []
        self._load(folder, ROOT)
        self._before = Tree(self._tree.files, self._tree.folders)  # a copy

    def _load(self, folder: Path, node: int) -> None:
        for path in sorted(folder.iterdir()):
            inside = self._new(node, path.name)
            self._tree.folders[node][path.name] = inside
            if path.is_dir():
                self._tree.folders[inside] = {}
                self._load(path, inside)
            else:
                self._tree.files[inside] = path.read_bytes()

    def _new(self, folder: int, name: str) -> int:
        node = len(self._places)
        self._places[node] = f"{self._places[folder]}/{name}".removeprefix("/")
        return node

    def finished(self) -> Record:
        """All that was done."""
        folders: dict[int, dict[str, int]] = {node: {} for node in self._tree.folders}
        files = dict.fromkeys(self._tree.files, b"")
        return Record(files | self._before.files, folders | self._before.folders, self._places, tuple(self._steps))

    def read(self, call: str, words: list[str], result: int) -> None:
        """A call that succeeded."""
        number = int(words[0]) if words[0].isdigit() else -1
        file = self._open.get(number)
        if call in _NOT_FOLLOWED:
            assert file is None, f"{call} is not followed"
            assert not any(self._folder in _text(word) for word in words), f"{call} is not followed: {words}"
        elif call == "openat":
            self._opened(words, result)
        elif call in _OF_NAMES:
            self._renamed(call, words)
        elif call == "close":
            self._forget(number)
        elif call in ("dup", "dup2", "dup3") or (call == "fcntl" and words[1].startswith("F_DUPFD")):
            self._forget(result)
            if file is not None:
                self._open[result] = file
        elif call == "write" and number in self._outside:
            self._steps += [Told(line) for line in _text(words[1]).splitlines()]
        elif file is not None:
            self._on(call, file, words, result)

    def _forget(self, number: int) -> None:
        self._open.pop(number, None)
        self._outside.discard(number)

    def _opened(self, words: list[str], number: int) -> None:
        self._forget(number)
        if _text(words[1]) == self._told:
            self._outside.add(number)
            return
        if (found := self._find(words[0], words[1])) is None:
            return
        folder, name = found
        node = self._tree.folders[folder].get(name) if name else folder
        if node is None:
            node = self._new(folder, name)
            self._tree.files[node] = b""
            self._do(Named(((folder, name, node),)))
        elif "O_TRUNC" in words[2] and self._tree.files[node]:
            self._do(Resized(node, 0))
        self._open[number] = _Open(node, appends="O_APPEND" in words[2])

    def _renamed(self, call: str, words: list[str]) -> None:
        handle, *paths = words if call == "unlinkat" else ["AT_FDCWD", *words]
        places = [self._find(handle, path) for path in paths if path.startswith('"')]
        if None in places:
            assert places.count(None) == len(places), f"{call} leads over the folder's edge"
            return
        (folder, name), (onto, new) = places[0], places[-1]  # type: ignore[misc]
        if call == "mkdir":
            node = self._new(folder, name)
            self._tree.folders[node] = {}
            self._do(Named(((folder, name, node),)))
        elif call in ("rename", "link"):
            node = self._tree.folders[folder][name]
            self._do(Named((*([(folder, name, None)] if call == "rename" else []), (onto, new, node))))
        else:
            self._do(Named(((folder, name, None),)))

    def _on(self, call: str, file: _Open, words: list[str], result: int) -> None:
        if call == "lseek":
            file.place = result
        elif call in ("fsync", "fdatasync"):
            self._steps.append(Flushed(file.node))
        elif call == "ftruncate":
            self._do(Resized(file.node, int(words[1])))
        elif call == "pwrite64":
            self._do(Wrote(file.node, int(words[3]), _bytes(words[1])[:result]))
        elif call in ("write", "sendfile"):
            place = len(self._tree.files[file.node]) if file.appends else file.place
            if call == "write":
                data = _bytes(words[1])[:result]
            else:  # "[0] => [3]": from where to where in the other file
                start = int(words[2].split("]")[0].lstrip("["))
                data = self._tree.files[self._open[int(words[1])].node][start : start + result]
            assert len(data) == result, "a write was not recorded whole"
            self._do(Wrote(file.node, place, data))
            file.place = place + result

    def _find(self, handle: str, path: str) -> tuple[int, str] | None:
        """(the folder, the name in it) of a path; an empty name for the folder itself; None outside."""
        text = _text(path)
        if text.startswith("/"):
            if not f"{text}/".startswith(f"{self._folder}/"):
                return None
            start, text = ROOT, text.removeprefix(self._folder)
        elif handle.isdigit() and int(handle) in self._open:
            start = self._open[int(handle)].node
        else:
            return None
        *above, name = [part for part in text.split("/") if part not in ("", ".")] or [""]
        for part in above:
            start = self._tree.folders[start][part]
        return start, name

    def _do(self, change: Change) -> None:
        self._tree.do(change)
        self._steps.append(change)


def _bytes(word: str) -> bytes:
    return bytes.fromhex(word.strip('"').replace("\\x", ""))


def _text(word: str) -> str:
    return _bytes(word).decode(errors="replace") if word.startswith('"') else ""
