"""What a disk may hold after a power cut, from a record of what was written to it and what was flushed.

As POSIX has it, and no kinder: the bytes of a file are safe once that file was flushed (fsync or fdatasync), a name,
new or taken away, once its folder was. A folder's own name stands in the folder above. Of all that was not flushed, the
disk holds any part, in any order: pages of 4 KiB and names each for themselves, a write cut in the middle, a length
without its bytes. This is the way of ALICE (Pillai et al., OSDI 2014).

What is assumed of a file system, as SQLite assumes it: a rename is done or not done, and safe once the folder that it
leads into was flushed; a write changes no byte beside its own; nothing that was flushed is lost.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = 0  # the number of the folder in which everything lies
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Wrote:
    """Bytes into a file, from an offset on."""

    node: int
    at: int
    data: bytes


@dataclass(frozen=True)
class Resized:
    """A file cut, or lengthened with zeros."""

    node: int
    size: int


@dataclass(frozen=True)
class Named:
    """Names that changed at once: (folder, name, what it names now, None for nothing). The last one makes it safe."""

    changes: tuple[tuple[int, str, int | None], ...]

    @property
    def node(self) -> int:
        """The folder whose flushing makes it safe."""
        return self.changes[-1][0]


@dataclass(frozen=True)
class Flushed:
    """A file's bytes, or a folder's names."""

    node: int


@dataclass(frozen=True)
class Told:
    """What somebody outside was told: they will not forget it."""

    fact: str


Change = Wrote | Resized | Named
Step = Change | Flushed | Told
Contents = dict[str, bytes | None]  # paths below ROOT, folders with None
Keep = Callable[[Change, bool], Sequence[Change]]  # (not flushed, whether it is the last write): what the disk holds


class Tree:
    """Files and folders by number."""

    def __init__(self, files: dict[int, bytes], folders: dict[int, dict[str, int]]) -> None:
        self.files: dict[int, bytes | bytearray] = dict(files)
        self.folders = {number: dict(names) for number, names in folders.items()}

    def do(self, change: Change) -> None:
        """Makes a change."""
        match change:
            case Wrote(node, at, data):
                file = self._changing(node)
                file.extend(bytes(max(0, at - len(file))))
                file[at : at + len(data)] = data
            case Resized(node, size):
                file = self._changing(node)
                del file[size:]
                file.extend(bytes(size - len(file)))
            case Named(changes):
                for folder, name, node in changes:
                    if node is None:
                        self.folders[folder].pop(name, None)
                    else:
                        self.folders[folder][name] = node

    def _changing(self, node: int) -> bytearray:
        file = self.files[node]
        if not isinstance(file, bytearray):
            file = self.files[node] = bytearray(file)
        return file

    def contents(self, start: int = ROOT, path: str = "") -> Contents:
        """Everything that has a name."""
        found: Contents = {}
        for name, node in self.folders.get(start, {}).items():
            below = f"{path}{name}"
            if node in self.folders:
                found[below] = None
                found |= self.contents(node, f"{below}/")
            else:
                found[below] = bytes(self.files[node])
        return found


@dataclass(frozen=True)
class Record:
    """What a program did to the files below a folder: the state before, all of it flushed, and each step since.

    files, folders: the state before, by number; also, empty, what was made since. places: each one's path below ROOT
    when it was made.
    """

    files: dict[int, bytes]
    folders: dict[int, dict[str, int]]
    places: dict[int, str]
    steps: tuple[Step, ...]

    def after(self, steps: int, disk: str, keep: Keep) -> Contents:
        """Everything below ROOT when the power fails after so many steps for what lies below `disk`, and only there."""
        unsafe = self._unsafe(steps, disk)
        writes = [number for number in unsafe if isinstance(self.steps[number], Wrote)]
        tree = Tree(self.files, self.folders)
        for number, step in enumerate(self.steps[:steps]):
            if isinstance(step, Change):
                for change in keep(step, writes[-1:] == [number]) if number in unsafe else (step,):
                    tree.do(change)
        return tree.contents()

    def _unsafe(self, steps: int, disk: str) -> list[int]:
        """Which of the first steps were not flushed by any later one of them."""
        flushed: set[int] = set()
        unsafe = []
        for number in range(steps - 1, -1, -1):
            step = self.steps[number]
            if isinstance(step, Flushed):
                flushed.add(step.node)
            elif isinstance(step, Change) and step.node not in flushed and self.is_on(step, disk):
                unsafe.append(number)
        return unsafe[::-1]

    def is_on(self, step: Step, disk: str) -> bool:
        """Whether a step concerns a file or folder at or below a path."""
        return not isinstance(step, Told) and f"{self.places[step.node]}/".startswith(f"{disk}/")

    def cuts(self, disk: str) -> Iterator[tuple[int, list[str]]]:
        """(steps before a power cut, what was told by then): before each flushing, where most is at stake; after each
        word that was given."""
        told: list[str] = []
        for number, step in enumerate(self.steps):
            if isinstance(step, Told):
                told = [*told, step.fact]
                yield number + 1, told
            elif isinstance(step, Flushed) and self.is_on(step, disk):
                yield number, told
        yield len(self.steps), told


_WAYS_TO_KEEP = ("nothing", "each name", "each name and length", "each byte", "all but a half", "some part")


def _keep(name: str, steps: int) -> Keep:
    """One of the ways, for a cut after so many steps."""
    match name:
        case "nothing":
            return lambda _change, _last: ()
        case "each name":
            return lambda change, _last: (change,) if isinstance(change, Named) else ()
        case "each byte":
            return lambda change, _last: () if isinstance(change, Named) else (change,)
        case "each name and length":
            return lambda change, _last: (
                (Wrote(change.node, change.at + len(change.data), b""),) if isinstance(change, Wrote) else (change,)
            )
        case "all but a half":
            return lambda change, last: (
                (Wrote(change.node, change.at, change.data[: len(change.data) // 2]),)
                if isinstance(change, Wrote) and last
                else (change,)
            )
    return _by_coin(random.Random(f"{name} {steps}"))


def _by_coin(coin: random.Random) -> Keep:
    def keep(change: Change, _last: bool) -> Sequence[Change]:
        if not isinstance(change, Wrote):
            return (change,) if coin.random() < 0.5 else ()
        end = change.at + len(change.data)
        edges = [change.at, *range(change.at // _PAGE_BYTES * _PAGE_BYTES + _PAGE_BYTES, end, _PAGE_BYTES), end]
        pages = [change.data[a - change.at : b - change.at] for a, b in itertools.pairwise(edges)]
        return [Wrote(change.node, at, page) for at, page in zip(edges, pages, strict=False) if coin.random() < 0.5]

    return keep


def states(record: Record, disk: str) -> Iterator[tuple[str, Contents, list[str]]]:
    """(what happened, the files below ROOT, what was told by then) for each cut; of equal ones that with most words."""
    found: dict[bytes, tuple[int, str, list[str]]] = {}
    for steps, told in record.cuts(disk):
        for name in _WAYS_TO_KEEP:
            contents = record.after(steps, disk, _keep(name, steps))
            digest = sha256()
            for path in sorted(contents):
                digest.update(f"{path}\0".encode() + sha256(contents[path] or b"").digest())
            found[digest.digest()] = steps, name, told
    for steps, name, told in found.values():
        what = f"{disk}: cut after {steps} steps; of what was not flushed, {name} is there"
        yield what, record.after(steps, disk, _keep(name, steps)), told


def put(contents: Contents, folder: Path) -> None:
    """Writes a disk's contents below a folder."""
    for path, data in contents.items():
        if data is None:
            (folder / path).mkdir(parents=True)
        else:
            (folder / path).write_bytes(data)
