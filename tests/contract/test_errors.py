"""Errors keep to their list: every code that is raised stands in CODES, and what may cross the wire tells nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import CODES, Code, ExitCode, SynthwardError, public_text

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shared", "site_node", "coordinator", "deploy")
# Codes that nothing raises, each with the reason why it may stay. A code that is raised after all leaves this list.
NOT_RAISED = {
    "airlock.votes": "reserved: a vote that does not suffice is told by `approve`, not raised",
    "unavailable.process": "reserved: the supervisor restarts a child that died, and says so in its log",
}
# Public texts may name the parts of every data folder; these are words of ours, not a hospital's files.
WORDS_OF_OURS = ("patients.csv", "images/", "masks/")
LONGEST_PUBLIC_TEXT = 80


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every source file of ours but the generated ones."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "_pb2" not in path.name:
                yield path, ast.parse(path.read_text(encoding="utf-8"))


def codes_in(tree: ast.Module) -> set[str]:
    """Strings that stand where a code belongs: first arguments of SynthwardError and Problem, and `code=`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in ("SynthwardError", "Problem") and node.args:
                found |= values_of(node.args[0])
            found |= {value for k in node.keywords if k.arg == "code" for value in values_of(k.value)}
    return found - {""}


def values_of(expression: ast.expr) -> set[str]:
    """The strings that an expression may be: `"internal"`, `job.code or "internal"`, `a if b else "internal"`."""
    match expression:
        case ast.Constant(value=str(value)):
            return {value}
        case ast.BoolOp(values=parts):
            return set().union(*map(values_of, parts))
        case ast.IfExp(body=body, orelse=orelse):
            return values_of(body) | values_of(orelse)
    return set()


def strings_in(tree: ast.Module) -> set[str]:
    """All string constants: codes also go through variables, answers and comparisons."""
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def tells_of_a_site(text: str) -> bool:
    """Whether a text could name a file, a folder, a person or a case, or has room for one to be filled in."""
    for word in WORDS_OF_OURS:
        text = text.replace(word, "")
    return bool(re.search(r"[/\\{}%@]|\.\w|[0-9a-f]{8}", text))


def test_every_code_that_is_raised_is_in_the_list() -> None:
    unknown = {(str(path), code) for path, tree in trees() for code in codes_in(tree) if code not in CODES}
    assert unknown == set()


def test_a_code_that_is_not_in_the_list_is_noticed() -> None:
    for line in (
        'raise SynthwardError("intake.imagined", "x")',
        'raise errors.SynthwardError(job.code or "intake.imagined", "x")',
        'Problem("intake.imagined", "a", "b", "c")',
        'read_toml(Policy, path, code="intake.imagined")',
    ):
        assert codes_in(ast.parse(line)) - CODES.keys() == {"intake.imagined"}


def test_every_code_in_the_list_is_used() -> None:
    used = set().union(*(strings_in(tree) for path, tree in trees() if path != ROOT / "shared" / "errors.py"))
    assert set(CODES) - used == NOT_RAISED.keys() & CODES.keys()
    assert all(NOT_RAISED.values())


@pytest.mark.parametrize("code", CODES)
def test_a_public_text_is_short_and_tells_nothing_of_a_site(code: str) -> None:
    text = CODES[code].public
    assert 0 < len(text) <= LONGEST_PUBLIC_TEXT
    assert not tells_of_a_site(text)
    assert text == text.strip()
    assert text.isprintable()


@pytest.mark.parametrize(
    "text", ["/data/polyps cannot be read", "case0007.png is truncated", "patient {patient} is new", "3f2a9c01d4 twice"]
)
def test_a_public_text_that_tells_of_a_site_is_noticed(text: str) -> None:
    assert tells_of_a_site(text)


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_a_name_that_scripts_can_match_and_a_failing_exit_code(code: str) -> None:
    assert re.fullmatch(r"internal|[a-z]+\.[a-z]+(-[a-z]+)*", code)
    assert CODES[code].exit in ExitCode
    assert CODES[code].exit is not ExitCode.OK
    assert SynthwardError(code, "what happened").exit_code is CODES[code].exit


def test_every_exit_code_but_success_belongs_to_a_code() -> None:
    assert {code.exit for code in CODES.values()} == set(ExitCode) - {ExitCode.OK}


def test_exit_codes_stay_as_scripts_know_them() -> None:
    names = ("OK", "INTERNAL", "USAGE", "INPUT", "TRUST", "POLICY", "UNAVAILABLE", "STORAGE", "STATE")
    assert {code.name: code.value for code in ExitCode} == {name: value for value, name in enumerate(names)}


def test_an_error_with_an_unknown_code_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="not in CODES"):
        SynthwardError("intake.imagined", "what happened")


def test_what_crosses_the_wire_is_the_public_text_alone() -> None:
    error = SynthwardError(
        "intake.truncated", "images/smith_0007.png ends too early", why="smith's file", do="ask smith"
    )
    assert error.public() == CODES["intake.truncated"].public
    assert "smith" not in error.public()
    assert "smith" in str(error)


def test_a_code_of_another_version_has_a_text_too() -> None:
    assert public_text("intake.of-the-future") == "an error that this version does not know"


def test_codes_are_frozen() -> None:
    with pytest.raises(AttributeError):
        CODES["internal"].public = "changed"  # type: ignore[misc]
    assert isinstance(CODES["internal"], Code)
