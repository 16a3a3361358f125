"""deploy/THREATS.md names tests that exist, for all threats; deploy/RUNBOOK.md speaks of every family of errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.errors import CODES
from tests.contract.test_docs import MAKEFILE, command_lines, missing_paths, problem, rows, section

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
THREATS = (DEPLOY / "THREATS.md").read_text(encoding="utf-8")
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")
AS_THEMSELVES = re.sub(r"^runuser -u [a-z-]+ -- ", "", RUNBOOK, flags=re.M)  # its commands without "as which user"
NOT_SHOWN = "not shown by a test"
HOW_MANY = 17


def promises(text: str) -> list[tuple[str, str, str]]:
    """(threat, promise, what shows it) of each row; a row without a number goes on with the threat above it."""
    found, threat = [], ""
    for number, _name, promise, shown in rows(section(text, "What we promise, threat by threat")):
        threat = number or threat
        found.append((threat, promise, shown))
    return found


def named_tests(shown: str) -> list[str]:
    """The test files in a cell."""
    return re.findall(r"`(tests/[\w/]+\.py)`", shown)


def wrong(text: str) -> list[str]:
    """What a row claims without a test that is there, and without saying so."""
    found = []
    for threat, promise, shown in promises(text):
        named = named_tests(shown)
        missing = [name for name in named if not _holds_tests(ROOT / name)]
        if missing or bool(named) == (shown == NOT_SHOWN):
            found.append(f"{threat}: {promise}: {missing or shown}")
    return found


def _holds_tests(path: Path) -> bool:
    return path.is_file() and re.search(r"^ *(async )?def test_", path.read_text(encoding="utf-8"), re.M) is not None


def families(codes: dict[str, object]) -> set[str]:
    """The first parts of the codes."""
    return {code.split(".")[0] for code in codes}


def test_every_promise_names_a_test_that_exists_or_says_that_there_is_none() -> None:
    assert wrong(THREATS) == []


def test_every_threat_has_a_promise_that_a_test_shows() -> None:
    shown = {threat for threat, _promise, shown in promises(THREATS) if named_tests(shown)}
    assert shown == {f"T{number:02}" for number in range(1, HOW_MANY + 1)}


@pytest.mark.parametrize("cell", ["`tests/threats/test_nothing.py`", "`tests/helpers.py`", "the code", ""])
def test_a_promise_without_a_test_is_noticed(cell: str) -> None:
    changed = re.sub(r"^(\| T11 \|.*\|.*\|) .* \|$", rf"\1 {cell} |", THREATS, flags=re.M)
    assert changed != THREATS
    assert wrong(changed) != []


@pytest.mark.parametrize("name", ["THREATS.md", "RUNBOOK.md", "wheelhouse.md"])
def test_links_and_paths_lead_somewhere(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", text)
    assert [link for link, _ in links if link and not (DEPLOY / link).exists()] == []
    for link, anchor in links:
        if anchor:
            target = (DEPLOY / link).read_text(encoding="utf-8") if link else text
            assert anchor[1:] in _anchors(target), f"{link}{anchor}"
    without_links = re.sub(r"\]\([^)]*\)", "]", text)
    assert missing_paths(without_links) == []


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as usual renderers spell them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("argv", command_lines(AS_THEMSELVES), ids=" ".join)
def test_a_command_line_in_the_runbook_would_run(argv: list[str]) -> None:
    assert problem(argv, MAKEFILE) == ""


def test_every_family_of_errors_stands_in_the_runbook_and_no_other() -> None:
    told = [family.strip("`") for family, _whose, meaning in rows(section(RUNBOOK, "What each alarm means")) if meaning]
    assert told == sorted(set(told))
    assert set(told) == families(CODES)


def test_every_code_that_the_documents_name_is_one_of_ours() -> None:
    named = {
        code
        for text in (RUNBOOK, THREATS)
        for code in re.findall(r"`([a-z]+\.[a-z-]+)`", text)
        if code.split(".")[0] in families(CODES)
    }
    assert named - CODES.keys() - {"policy.toml", "settings.toml"} == set()
    assert named  # the pattern finds some
