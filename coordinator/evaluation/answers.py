"""What a site's answers become in a report: figures of exactly what was asked, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from coordinator.evaluation.cells import Key
from coordinator.evaluation.plan import asked
from coordinator.evaluation.report_data import DistributionAnswer, Means
from coordinator.store.findings import Finding
from coordinator.store.store import Measurement
from shared.documents import parse
from shared.errors import SynthwardError, public_text
from shared.findings import Comparison, Distribution
from shared.metrics import NAMES, Metrics
from shared.study import Study

NO_ANSWER = "no answer yet"
_NO_INTERVALS = "a study in mode dp asks for none, which would be readings without noise"
_OTHER_WORK = "it answered with figures that do not belong to what was asked"


@dataclass(frozen=True)
class Question:
    """What all sites were asked: one dataset version of a study. released: the sites that have pairs in it."""

    study: Study
    study_sha256: str
    version: int
    released: tuple[str, ...]

    def networks(self) -> list[Key]:
        """Every network of the study without its seeds, each once and in order."""
        plan = asked(self.study.evaluation, self.released)
        return list(dict.fromkeys((item.arm, item.trained_on, item.n) for item in plan))

    def is_of(self, found: Comparison | Distribution) -> bool:
        """Whether an answer is to this question and to no other."""
        return (found.study_sha256, found.dataset_version) == (self.study_sha256, self.version)


def comparison_of(question: Question, own: Sequence[Finding]) -> tuple[Comparison | None, str]:
    """A site's comparison, or why there is none. own: the site's findings."""
    answer = next((finding for finding in own if finding.kind == "comparison"), None)
    if answer is None:
        return None, _NO_INTERVALS if question.study.privacy.mode == "dp" else NO_ANSWER
    if answer.document is None:
        return None, public_text(answer.code)
    try:
        found = parse(Comparison, answer.document)
    except SynthwardError as error:
        return None, public_text(error.code)
    told, seeds = {(f.arm, f.trained_on, f.n) for f in found.arms}, max((f.seeds for f in found.arms), default=0)
    if question.is_of(found) and told <= set(question.networks()) and seeds <= len(question.study.evaluation.seeds):
        return found, ""
    return None, _OTHER_WORK


def distribution_of(question: Question, finding: Finding) -> DistributionAnswer:
    """How far one set of pairs is from a site's real ones, or why nobody knows."""
    source = str(finding.trained_on)
    if finding.document is None:
        return DistributionAnswer(trained_on=source, reason=public_text(finding.code))
    try:
        found = parse(Distribution, finding.document)
    except SynthwardError as error:
        return DistributionAnswer(trained_on=source, reason=public_text(error.code))
    if question.is_of(found) and found.trained_on == source:
        return DistributionAnswer(trained_on=source, found=found)
    return DistributionAnswer(trained_on=source, reason=_OTHER_WORK)


def means_of(question: Question, site: str, compared: Comparison | None, own: Sequence[Measurement]) -> list[Means]:
    """Means over seeds, or reasons, for every network that the site's comparison does not have."""
    have = {(f.arm, f.trained_on, f.n) for f in compared.arms} if compared is not None else set()
    return [mean_of(key, site, own) for key in question.networks() if key not in have]


def mean_of(key: Key, site: str, own: Sequence[Measurement]) -> Means:
    """One network's means over the seeds that were scored; a run that failed is in no mean."""
    arm, trained_on, n = key
    told = [answer for answer in own if (answer.arm, answer.trained_on, answer.n) == key]
    values = [answer.metrics for answer in told if answer.metrics is not None]
    if not values:
        codes = [answer.code for answer in told if answer.code]
        reason = public_text(codes[-1]) if codes else NO_ANSWER
        return Means(arm=arm, trained_on=trained_on, n=n, site=site, reason=reason)
    return Means(
        arm=arm,
        trained_on=trained_on,
        n=n,
        site=site,
        seeds=len(values),
        patients=fewest(told),
        metrics=Metrics(**{name: fmean(getattr(value, name) for value in values) for name in NAMES}),
    )


def fewest(answers: Sequence[Measurement]) -> int | None:
    """The fewest patients that any of these answers rests on: what holds of all of them. None where nobody told."""
    return min((answer.patients for answer in answers if answer.patients is not None), default=None)
