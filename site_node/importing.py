"""Import: from a folder of pairs to the site's cohort. What cannot be used is named; nothing is half imported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.cases import PrivateStore
from site_node.intake.folders import FoundCase, IntakeLimits, PatientsFrom, Problem, load_case, read_folder
from site_node.policy import read_policy
from site_node.settings import Home


@dataclass(frozen=True)
class Imported:
    """What was imported, and what was left out."""

    cases: int
    patients: int
    training_patients: int
    holdout_patients: int
    patients_from: PatientsFrom
    problems: tuple[Problem, ...]


def import_folder(home: Home, folder: Path, *, skip_unusable: bool, limits: IntakeLimits | None = None) -> Imported:
    """Reads folder in place of what was imported before. Raises the first problem's code unless they are skipped."""
    policy = read_policy(home.policy_file)
    store = PrivateStore(home.private)
    limits = limits or IntakeLimits()
    findings = read_folder(folder, limits)
    if findings.problems and not skip_unusable:
        raise _refused(findings.problems)
    if not findings.cases:
        raise SynthwardError("intake.nothing", f"{folder} holds no usable pair", do="mend what is named above")
    store.replace_cases(_loaded(findings.cases, limits), actor="administrator")
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    return Imported(
        cases=len(cases),
        patients=len(split.training) + len(split.holdout),
        training_patients=len(split.training),
        holdout_patients=len(split.holdout),
        patients_from=findings.patients_from,
        problems=findings.problems,
    )


def _loaded(cases: tuple[FoundCase, ...], limits: IntakeLimits) -> Iterator[tuple[str, Pair]]:
    for case in cases:
        yield case.patient, load_case(case, limits)


def _refused(problems: tuple[Problem, ...]) -> SynthwardError:
    listed = "\n  ".join(f"{p.file}: {p.text} [{p.code}] {p.do}" for p in problems[:50])
    more = f"\n  and {len(problems) - 50} more" if len(problems) > 50 else ""
    return SynthwardError(
        problems[0].code,
        f"{len(problems)} files cannot be used, nothing was imported:\n  {listed}{more}",
        do="mend them, or import the rest with --skip-unusable",
    )
