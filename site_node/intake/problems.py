"""What is wrong with a data folder, file by file: told to the person at the site, never sent anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.errors import CODES, SynthwardError


@dataclass(frozen=True)
class Problem:
    """One thing to put right. code: from shared.errors.CODES; file: below the data folder, such as images/0007.png."""

    code: str
    file: str
    text: str
    do: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"problem code {self.code!r} is not in CODES")

    @classmethod
    def of(cls, error: SynthwardError, file: str) -> Problem:
        """The problem that an error about one file tells of."""
        text = f"{error.what}: {error.why}" if error.why else error.what
        return cls(error.code, file, text, error.do)


def shown(path: Path) -> str:
    """A file's name for people: its folder and its name, with what a terminal would not print escaped."""
    return printable(f"{path.parent.name}/{path.name}")


def printable(text: str) -> str:
    """text, or its ASCII escapes if it holds control characters or bytes that are no UTF-8."""
    return text if text.isprintable() else ascii(text)[1:-1]
