"""Import: from a folder of pairs to the site's cohort. What cannot be used is named; nothing is half imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.cases import PrivateStore, case_texts
from site_node.intake.folders import FoundCase, IntakeLimits, PatientsFrom, Problem, load_case, read_folder
from site_node.intake.problems import shown
from site_node.intake.text_choice import TextChoice
from site_node.intake.text_found import Treatment, decide, treated
from site_node.intake.text_record import summary, text_counts
from site_node.policy import read_policy
from site_node.settings import Home
from site_node.text.reader import TextLine, TextReader

ToldText = Callable[[str, Sequence[TextLine]], None]
Report = Callable[[str, int, int], None]
LONGEST_REASON = 300


@dataclass(frozen=True)
class Imported:
    """What was imported, and what was left out. texts: cases by what was done about text, and how many had any."""

    cases: int
    patients: int
    training_patients: int
    holdout_patients: int
    patients_from: PatientsFrom
    problems: tuple[Problem, ...]
    texts: dict[str, int]


def import_folder(
    home: Home,
    folder: Path,
    *,
    skip_unusable: bool,
    limits: IntakeLimits | None = None,
    text: TextChoice = "refuse",
    because: str = "",
    report: Report = lambda _stage, _done, _of: None,
    tell: ToldText = lambda _file, _lines: None,
) -> Imported:
    """Reads folder in place of what was imported before. Raises the first problem's code unless they are skipped.

    text: what is done with images that have text burned in; because: why it is kept, for the journal. tell(file, lines)
    gets what was read of each, for the person at the terminal and for nothing else.
    Raises also intake.text-reason where text is kept without a reason, or a reason given for anything else.
    """
    _check_reason(text, because)
    policy = read_policy(home.policy_file)
    store = PrivateStore(home.private)
    limits = limits or IntakeLimits()
    findings = read_folder(folder, limits)
    decided, unreadable = _look_for_text(findings.cases, limits, text, report, tell)
    problems = (*findings.problems, *unreadable)
    if problems and not skip_unusable:
        raise _refused(problems)
    if not decided:
        raise SynthwardError("intake.nothing", f"{folder} holds no usable pair", do="mend what is named above")
    records = [treatment.record() for _, treatment in decided]
    store.replace_cases(
        _loaded(decided, limits), actor="administrator", texts=records, detail=summary(records, because.strip()),
        patients_from=findings.patients_from,
    )  # fmt: skip
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    with store.reading.begin() as connection:
        texts = text_counts(connection, case_texts)
    return Imported(
        cases=len(cases),
        patients=len(split.training) + len(split.holdout),
        training_patients=len(split.training),
        holdout_patients=len(split.holdout),
        patients_from=findings.patients_from,
        problems=problems,
        texts=texts,
    )


def _look_for_text(
    cases: tuple[FoundCase, ...], limits: IntakeLimits, choice: TextChoice, report: Report, tell: ToldText
) -> tuple[list[tuple[FoundCase, Treatment]], list[Problem]]:
    """What is to be done with each case, and those that cannot go in; one case's pixels are in memory at a time."""
    reader = TextReader()
    decided, problems = [], []
    for number, case in enumerate(cases, start=1):
        name = shown(case.image)
        try:
            pair = load_case(case, limits)
            found = reader.lines(pair.image)
            if found:
                tell(name, found)
            decided.append((case, decide(pair, name, choice, found, reader)))
        except SynthwardError as error:
            problems.append(Problem.of(error, name))
        report("reading burned-in text", number, len(cases))
    return decided, problems


def _loaded(decided: list[tuple[FoundCase, Treatment]], limits: IntakeLimits) -> Iterator[tuple[str, Pair]]:
    for case, treatment in decided:
        yield case.patient, treated(load_case(case, limits), treatment)


def _check_reason(text: TextChoice, because: str) -> None:
    given = because.strip()
    if text == "keep" and not (given and len(given) <= LONGEST_REASON and given.isprintable()):
        raise SynthwardError(
            "intake.text-reason",
            f"to keep burned-in text needs a reason of one line and at most {LONGEST_REASON} characters",
            why="the generators learn the text, and it can come out again; the journal says who took that on, and why",
            do='add --because "REASON"; name no patient in it, it stays in the journal for good',
        )
    if text != "keep" and given:
        raise SynthwardError(
            "intake.text-reason", f"text is not kept with --text {text}, so there is nothing to give a reason for",
            do="leave --because out",
        )  # fmt: skip


def _refused(problems: tuple[Problem, ...]) -> SynthwardError:
    listed = "\n  ".join(f"{p.file}: {p.text} [{p.code}] {p.do}" for p in problems[:50])
    more = f"\n  and {len(problems) - 50} more" if len(problems) > 50 else ""
    return SynthwardError(
        problems[0].code,
        f"{len(problems)} files cannot be used, nothing was imported:\n  {listed}{more}",
        do="mend them, or import the rest with --skip-unusable",
    )
