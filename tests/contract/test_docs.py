"""README.md says what there is, all of it, and nothing else: commands, settings, policy, exit codes, paths."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer
from pydantic import BaseModel

import coordinator.cli
import coordinator.settings
import site_node.cli
import site_node.settings
from coordinator.datasets.build import Dataset, DatasetPair
from coordinator.datasets.export import export
from coordinator.store.objects import ObjectStore
from shared.bundle import entry
from shared.errors import ExitCode
from shared.pairs import Pair
from shared.privacy import Access, PrivacyStatement
from shared.study import Study
from site_node.policy import Policy

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS: dict[str, click.Command] = {
    "synthward-site": typer.main.get_command(site_node.cli.app),
    "synthward-coordinator": typer.main.get_command(coordinator.cli.app),
}
TABLES: dict[str, type[BaseModel]] = {
    "A site's settings.toml": site_node.settings.Settings,
    "A site's policy.toml": Policy,
    "A coordinator's settings.toml": coordinator.settings.Settings,
}
# What `make demo` writes; it is there only after a run.
WRITTEN_BY_RUNS = ("build/",)


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages."""
    return [body for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if name in languages]


def section(text: str, heading: str) -> str:
    """What stands between a heading and the next one, of whatever level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    assert found, f"README.md has no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, without headers and rules."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    rules = {i for i, line in enumerate(cells) if all(set(cell) <= set("-: ") and cell for cell in line)}
    return [line for i, line in enumerate(cells) if i not in rules and i + 1 not in rules]


def command_lines(text: str) -> list[list[str]]:
    """argv of every line of a shell block that starts one of our programs or make."""
    found = []
    for block in blocks(text, "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] in (*PROGRAMS, "make"):
                end = next((i for i, word in enumerate(words) if word in (">", "|", "&&")), len(words))
                found.append(words[:end])
    return found


def problem(argv: list[str], makefile: str) -> str:
    """Why a documented command line would not run; empty when it would."""
    return _make_problem(argv[1:], makefile) if argv[0] == "make" else _program_problem(argv)


def _program_problem(argv: list[str]) -> str:
    command, words, context = PROGRAMS[argv[0]], argv[1:], click.Context(PROGRAMS[argv[0]])
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0]) if words else None
        if found is None:
            return f"{argv[0]} has no command {words[:1]}"
        command, words = found, words[1:]
    try:
        command.make_context(command.name, words)
    except click.ClickException as error:
        return error.format_message()
    except click.exceptions.Exit:
        return ""  # --help
    return ""


def _make_problem(words: list[str], makefile: str) -> str:
    variables = {m[1] for m in re.finditer(r"^(\w+)\s*\?=", makefile, re.M)}
    targets = {m[1] for m in re.finditer(r"^([a-z][\w-]*):(?!=)", makefile, re.M)}
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in (variables if equals else targets):
            return f"the Makefile has no {'variable' if equals else 'target'} {name}"
    return ""


def leaves(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    """The names of all commands under a group."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, *names, name)
    else:
        yield names


def missing_paths(text: str) -> list[str]:
    """Links and back-ticked words that look like paths of this repository, and are none."""
    tops = {path.name for path in ROOT.iterdir()}
    spelt = set(re.findall(r"`([\w.\-]+(?:/[\w.\-]*)*)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)))
    repo = {path for path in spelt if path.split("/")[0] in tops | {"shared", "site_node", "coordinator", "deploy"}}
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    return sorted(p for p in repo | links if not p.startswith(WRITTEN_BY_RUNS) and not (ROOT / p).exists())


def keys(model: type[BaseModel], *above: str) -> Iterator[tuple[str, ...]]:
    """Every key of a model and of the models in it."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, *above, name)
        else:
            yield (*above, name)


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("argv", command_lines(README), ids=" ".join)
def test_a_command_line_in_the_readme_would_run(argv: list[str]) -> None:
    assert problem(argv, MAKEFILE) == ""


@pytest.mark.parametrize(
    "line",
    [
        "synthward-site publish --home x",
        "synthward-site import --force",
        "synthward-site approve r1 --as ada",
        "synthward-site status --timeout-s soon",
        "synthward-coordinator study withdraw x",
        "synthward-coordinator study",
        "synthward-coordinator dataset export only-a-study",
        "make release",
        "make demo HOSPITALS=4",
    ],
)
def test_an_invented_command_line_is_noticed(line: str) -> None:
    argv = command_lines(f"```sh\n{line}\n```\n")[0]
    assert problem(argv, MAKEFILE) != ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_documented(program: str) -> None:
    documented = [tuple(argv[1:]) for argv in command_lines(README) if argv[0] == program]
    for names in leaves(PROGRAMS[program]):
        assert any(words[: len(names)] == names for words in documented), f"{program} {' '.join(names)}"


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_is_documented_with_its_default(heading: str) -> None:
    defaults: dict[str, Any] = {
        name: "required" if field.is_required() else json.loads(json.dumps(field.default))
        for name, field in TABLES[heading].model_fields.items()
    }
    table = {key.strip("`"): default for key, default, meaning in rows(section(README, heading)) if meaning}
    said = {key: cell if cell == "required" else json.loads(cell.strip("`")) for key, cell in table.items()}
    assert said == defaults


def test_every_exit_code_is_documented() -> None:
    table = rows(section(README, "Exit codes and errors"))
    assert {(int(code), name) for code, name, meaning in table if meaning} == {(c.value, c.name) for c in ExitCode}


def test_the_ports_are_the_default_ones() -> None:
    text = section(README, "Processes and ports")
    ports = {int(port) for port in re.findall(r"\b7\d{3}\b", text)}
    models = (coordinator.settings.Settings, site_node.settings.Settings)
    assert ports == {
        f.default for m in models for name, f in m.model_fields.items() if name.endswith("_port") and f.default
    }


def paths_of(values: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The path of every key that holds no table."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((name, *path) for path in paths_of(value))
        else:
            yield (name,)


def test_the_example_study_is_valid_and_names_every_key() -> None:
    (example,) = blocks(README, "toml")
    values = tomllib.loads(example)
    Study.model_validate(values)
    given = set(paths_of(values))
    # The format is the software's; a study in mode audited has neither epsilon nor delta.
    assert given == set(keys(Study)) - {("format",), ("privacy", "epsilon"), ("privacy", "delta")}


def test_the_example_study_states_the_defaults() -> None:
    values = tomllib.loads(blocks(README, "toml")[0])
    needed = {name: values[name] for name, field in Study.model_fields.items() if field.is_required()}
    assert needed.keys() == {"study_id", "title", "closes"}
    assert Study.model_validate(values) == Study.model_validate(needed | {"purpose": values["purpose"]})


def test_paths_in_the_readme_exist() -> None:
    assert missing_paths(README) == []


def test_a_path_that_is_not_there_is_noticed() -> None:
    text = "`site_node/cohorts.py`, `tests/unit/`, [the runbook](deploy/nowhere.md), `build/demo/report.html`, `a/b`"
    assert missing_paths(text) == ["deploy/nowhere.md", "site_node/cohorts.py"]


@pytest.mark.parametrize("damaged", [False, True])
def test_the_receivers_lines_check_an_exported_dataset(tmp_path: Path, damaged: bool) -> None:
    objects, pairs = ObjectStore(f"file://{tmp_path / 'objects'}"), []
    for value in (50, 90):
        pixels = np.full((32, 32, 3), value, np.uint8)
        mask = np.where(np.arange(1024).reshape(32, 32) < 300 + value, 255, 0).astype(np.uint8)
        line, found = entry(Pair(pixels, mask))
        for name, data in found.items():
            objects.put(name, data)
        pairs.append(DatasetPair(site="north", image=line.image, mask=line.mask))
    statement = PrivacyStatement(accesses=(Access(kind="training"),))
    dataset = Dataset(study_sha256="0" * 64, bundles=("1" * 64,), privacy={"north": statement}, pairs=tuple(pairs))
    study = Study(study_id="s", title="A study", closes=datetime(2027, 1, 1, tzinfo=UTC))
    export(objects, dataset, study, 1, tmp_path / "out")
    if damaged:
        (tmp_path / "out" / "masks" / "north-00002.png").write_bytes(b"something else")
    (lines,) = blocks(README, "python")
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path / "out", capture_output=True, text=True)
    assert (done.returncode != 0) == damaged, done.stderr
    assert ("AssertionError: north-00002" in done.stderr) == damaged
