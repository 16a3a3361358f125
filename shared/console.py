"""What both command lines share: output for people or as JSON, errors with their code, progress on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

from shared.errors import ExitCode, SynthwardError

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def emit(data: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Prints the text for people, or the data as one JSON object."""
    if as_json:
        sys.stdout.write(json.dumps(data, sort_keys=True, default=str) + "\n")
    else:
        _out.print(text, markup=False)


def say(text: str) -> None:
    """A remark for people, on standard error, so that JSON on standard output stays JSON."""
    _err.print(text, markup=False)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table for people."""
    sheet = Table(*columns, title=title, title_justify="left")
    for row in rows:
        sheet.add_row(*row)
    _out.print(sheet)


@contextmanager
def errors(*, as_json: bool) -> Iterator[None]:
    """Ends the command with an error's own exit code, its text on standard error."""
    try:
        yield
    except SynthwardError as error:
        if as_json:
            line = {"code": error.code, "what": error.what, "why": error.why, "do": error.do}
            sys.stderr.write(json.dumps({"error": line}) + "\n")
        else:
            _err.print(f"Error: {error}", markup=False, style="red")
        raise SystemExit(int(error.exit_code)) from error
    except KeyboardInterrupt as interrupt:
        raise SystemExit(130) from interrupt


@contextmanager
def progress(*, as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yields report(stage, done, of): a bar on a terminal, a line a tenth elsewhere, nothing with --json."""
    if as_json:
        yield lambda _stage, _done, _of: None
    elif _err.is_terminal:
        with Progress(
            *Progress.get_default_columns(), TextColumn("{task.completed}/{task.total}"), console=_err
        ) as bar:
            tasks: dict[str, Any] = {}

            def show(stage: str, done: int, of: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage, total=of)
                bar.update(tasks[stage], completed=done)

            yield show
    else:
        last: dict[str, int] = {}

        def line(stage: str, done: int, of: int) -> None:
            tenth = 10 * done // max(of, 1)
            if last.get(stage) != tenth:
                last[stage] = tenth
                say(f"{stage}: {done} of {of}")

        yield line


EXIT_CODES = "\n".join(f"{code.value}  {code.name.lower()}" for code in ExitCode)
