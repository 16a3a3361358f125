"""The screening of a release: what is dropped and why, what is planted, and what blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import SynthwardError
from shared.pairs import Pair
from shared.study import MaskLimits
from site_node.policy import ScreeningRules
from site_node.screening.controls import PLANTED, with_date
from site_node.screening.plausibility import Ranges
from site_node.screening.reference import Reference
from site_node.screening.report import AuditReport, Control, Share
from site_node.screening.screen import DATE_KIND, Screening
from site_node.screening.verdict import audit, check_holdout, missed
from tests.helpers import refused
from tests.screened import HOLDOUT, RULES, STRANGERS, TRAINING, make_reference, pool, usual_reference

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return usual_reference()


@pytest.fixture
def screening(reference: Reference) -> Iterator[Screening]:
    with pool() as executor:
        yield Screening(reference, RULES, executor)


@pytest.fixture(scope="module")
def strangers(reference: Reference) -> list[Pair]:
    """Pairs that are nobody's, and that no check takes for a copy."""
    return [pair for pair in STRANGERS if reference.flagged(reference.scores(pair)) is None]


ALL_FOUND = tuple(
    Control(kind=kind, found=Share.of(20, 20), floor=0.95, by_nearest_pixel=Share.of(3, 20)) for kind in PLANTED
)


def conclude(
    screening: Screening, reference: Reference, controls: tuple[Control, ...] = ALL_FOUND, rules: ScreeningRules = RULES
) -> tuple[AuditReport, SynthwardError | None]:
    return audit(screening, reference, rules, controls, seconds={}, set_aside={})


# Sample by sample


def test_samples_are_accepted_or_dropped_for_their_reason(
    screening: Screening, reference: Reference, strangers: list[Pair]
) -> None:
    good, other = strangers[:2]
    full, empty = np.full_like(good.mask, 255), np.zeros_like(good.mask)
    found = screening.judge(
        [
            good,
            Pair(other.image, empty),
            Pair(other.image, full),
            TRAINING[0],
            good,
            Pair(255 - other.image, other.mask),
        ]
    )
    assert found[:3] == [None, "mask-empty", "mask-full"]
    assert found[3] in ("copy", "part-copy")
    assert found[4:] == ["duplicate", "implausible"]
    report, error = conclude(screening, reference)
    assert error is None
    assert (report.verdict, report.sampled, report.accepted) == ("passed", 6, 1)
    assert sum(report.rejected.values()) == 5
    assert sum(check.dropped for check in report.checks) == 1


def test_a_sample_with_a_date_in_it_is_dropped(
    screening: Screening, strangers: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranges, "hold", lambda *_: True)  # so few drawn patients have a narrow range
    rng = np.random.default_rng(1)
    assert screening.judge([with_date(pair, rng) for pair in strangers[:3]]) == ["text"] * 3


def test_a_mask_that_is_not_binary_is_our_own_mistake_and_stops_the_job(
    screening: Screening, strangers: list[Pair]
) -> None:
    with refused("pairs.mask-not-binary"):
        screening.judge([Pair(strangers[0].image, strangers[0].mask // 2)])


def test_the_studys_limits_of_masks_hold(reference: Reference, strangers: list[Pair]) -> None:
    with pool() as executor:
        strict = Screening(reference, replace(RULES, masks=MaskLimits(min_area=0.9)), executor)
        assert strict.judge(strangers[:1]) == ["implausible"]


def test_with_differential_privacy_the_checks_report_and_drop_nothing(reference: Reference) -> None:
    with pool() as executor:
        reporting = Screening(reference, replace(RULES, drops=False), executor)
        assert reporting.judge([TRAINING[0], TRAINING[1]]) == [None, None]
        report, error = conclude(reporting, reference, rules=replace(RULES, drops=False))
    assert error is None
    assert sum(check.dropped for check in report.checks) == 2
    assert not any(check.drops for check in report.checks)


def test_a_policy_can_lower_the_limit_of_correlation_and_never_raise_it() -> None:
    usual = usual_reference()
    with pool() as executor:
        strict = make_reference(executor, max_correlation=0.1)
    assert strict.limits["whole"] == strict.limits["crop"] == 0.1
    assert usual.limits["whole"] > 0.1
    assert all(strict.limits[name] <= usual.limits[name] for name in usual.limits)


def test_the_nearest_of_what_is_released_are_shown_with_their_cases(
    screening: Screening, reference: Reference, strangers: list[Pair]
) -> None:
    screening.judge(strangers[:4])
    names = [near.sample for near in screening.checks()[0].nearest]
    screening.keep(set(names[:2]))
    report, _ = conclude(screening, reference)
    case_ids = {case.case_id for case in reference.training}
    for check in report.checks:
        assert {near.sample for near in check.nearest} <= set(names[:2])
        assert {near.case_id for near in check.nearest} <= case_ids
        assert [near.score for near in check.nearest] == sorted((n.score for n in check.nearest), reverse=True)
        assert sum(check.histogram.samples) == check.samples.n == 2
        assert sum(check.histogram.between_patients) == len(HOLDOUT)


# The positive control


def test_every_kind_is_planted_and_counted_beside_the_yardstick(screening: Screening) -> None:
    controls = screening.plant(TRAINING[:3], HOLDOUT[:3], seed=1)
    by_kind = {control.kind: control for control in controls}
    assert set(by_kind) == {*PLANTED, DATE_KIND}
    assert all(control.found.n == 3 for control in controls)
    assert by_kind["exact"].found.k == by_kind["exact"].by_nearest_pixel.k == 3
    assert by_kind["turned-90"].found.k == 3 > by_kind["turned-90"].by_nearest_pixel.k
    assert by_kind[DATE_KIND].found.k == 3
    assert screening.sampled == 0  # what is planted is no sample


@pytest.mark.parametrize("found", [18, 0])
def test_one_blind_spot_is_enough_to_block_and_is_named(found: int) -> None:
    blind = Control(kind="warped", found=Share.of(found, 20), floor=0.95, by_nearest_pixel=Share.of(0, 20))
    error = missed((*ALL_FOUND, blind))
    assert error is not None
    assert (error.code, "warped" in error.what) == ("screening.control-missed", True)
    assert missed(ALL_FOUND) is None


def test_a_control_that_planted_nothing_vouches_for_nothing() -> None:
    error = missed((Control(kind="exact", found=Share.of(0, 0), floor=0.0, by_nearest_pixel=Share.of(0, 0)),))
    assert error is not None


def test_missed_controls_block_whatever_else_is_well(
    screening: Screening, reference: Reference, strangers: list[Pair]
) -> None:
    screening.judge(strangers[:1])
    blind = ALL_FOUND[0].model_copy(update={"found": Share.of(1, 20)})
    report, error = conclude(screening, reference, (blind,))
    assert error is not None
    assert (error.code, report.verdict, report.why) == ("screening.control-missed", "blocked", (error.what,))


# The verdict


def test_a_release_without_one_accepted_sample_is_blocked(screening: Screening, reference: Reference) -> None:
    screening.judge(TRAINING[:3])
    report, error = conclude(screening, reference)
    assert error is not None
    assert (error.code, report.verdict) == ("screening.too-few-accepted", "blocked")


def test_too_few_hold_out_patients_block_unless_the_policy_says_why_not(
    screening: Screening, reference: Reference, strangers: list[Pair]
) -> None:
    screening.judge(strangers[:1])
    few = replace(RULES, min_holdout_patients=40)
    report, error = conclude(screening, reference, rules=few)
    assert error is not None
    assert (error.code, report.verdict) == ("screening.inconclusive", "blocked")
    written = replace(few, inconclusive_because="a pilot, agreed with the ethics board")
    report, error = conclude(screening, reference, rules=written)
    assert (error, report.verdict) == (None, "inconclusive")
    assert any("agreed with the ethics board" in why for why in report.why)


def test_a_job_without_a_possible_verdict_is_refused_before_it_reads_a_pixel() -> None:
    few = replace(RULES, min_holdout_patients=40)
    with refused("screening.inconclusive"):
        check_holdout(39, few)
    check_holdout(40, few)
    check_holdout(2, replace(few, inconclusive_because="a pilot"))


def test_samples_that_give_members_away_block_the_release(reference: Reference) -> None:
    """A generator that repeats its training cases, with checks that only report."""
    rules = replace(RULES, drops=False, max_membership_auc=0.7)
    with pool() as executor:
        leaky = Screening(reference, rules, executor)
        leaky.judge(TRAINING)
        report, error = conclude(leaky, reference, rules=rules)
    assert error is not None
    assert (error.code, report.verdict) == ("screening.membership", "blocked")
    assert report.membership[0].auc.value > 0.95
    assert report.copying_z < -4
    assert report.nearer_to_training.low > 0.5
    assert any("nearer to training cases than" in why for why in report.why)


def test_only_counts_and_the_verdict_leave(screening: Screening, reference: Reference, strangers: list[Pair]) -> None:
    screening.judge(strangers[:2])
    report, _ = conclude(screening, reference)
    summary = report.summary()
    assert (summary.sampled, summary.accepted, summary.verdict) == (2, 2, "passed")
    assert summary.planted == summary.planted_found == 20 * len(PLANTED)
    sent = summary.model_dump_json()
    assert not any(case.case_id in sent or case.patient in sent for case in (*reference.training, *reference.holdout))
