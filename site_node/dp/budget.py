"""Whether a reading may be paid for, and paying for it: refused, or reserved.

A reservation is written before the first step and never given back: not when the job fails, not when its process is
killed, not when it needed fewer steps. Two jobs at once cannot overspend: the row is written under the database's write
lock, and only if the facts are still those that were added up.

The budget is epsilon (PRV) for a patient in a calendar year (UTC), composed over all noised readings of the site as if
each had read every patient: an upper bound for each of them. Training and hold-out patients are different people, so
somebody on one side has spent less than it says. The year is that of the clock or of the newest fact, whichever is
later. A clock that runs ahead opens next year's budget early and spends it: no study that has closed by that clock can
use it, and the year is used up when it comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.errors import SynthwardError
from shared.study import Study
from site_node.cases import PrivateStore, ledger
from site_node.cohort import Split
from site_node.dp.accountant import Epsilon, epsilon
from site_node.dp.events import Reading
from site_node.dp.ledger import (
    RESERVED,
    Fact,
    add_reserved,
    check_whole,
    clock,
    facts,
    latest,
    mark_committed,
)
from site_node.policy import Policy, terms

_ASK = "ask the study's lead for fewer or noisier readings, wait for the new year, or talk to the hospital"


@dataclass(frozen=True)
class Spent:
    """What the site has spent in one year, or in all. epsilon: of the noised readings alone.

    unaccounted: how many readings had no mechanism; where there are any, nothing bounds all readings together.
    """

    epsilon: Epsilon
    noised: int
    unaccounted: int


def delta_ceiling(policy: Policy, patients: int) -> float:
    """The largest delta that a study may have here: 1 / (10 N) for N training patients, or the policy's if smaller.

    A delta near 1 / N would be met by a mechanism that publishes one patient in N whole.
    """
    if patients < 1:
        raise ValueError(f"{patients} patients have no delta")
    own = 1.0 / (10.0 * patients)
    return own if policy.dp_delta == "auto" else min(own, policy.dp_delta)


def check_cohort(store: PrivateStore, study: Study, policy: Policy, split: Split) -> None:
    """Whether this site's patients can carry a study in mode dp. Call it before anything is read.

    Raises policy.dp-keys, policy.dp-patients, policy.dp-epsilon.
    """
    if not store.has_patient_keys():
        raise SynthwardError(
            "policy.dp-keys",
            "the cohort was imported without a table of patients, or before that was written down",
            why="the unit is the patient: two images of one patient that count as two would halve the stated epsilon",
            do="import again with a patients.csv that has the columns image,patient",
        )
    patients, floor = len(split.training), max(policy.min_dp_patients, terms(policy, study).min_patients)
    if patients < floor:
        raise SynthwardError(
            "policy.dp-patients",
            f"{patients} training patients; differential privacy asks for {floor} here",
            why="with fewer, the noise that the same epsilon needs hides what all patients have in common too",
            do="import more patients, or change min_dp_patients in policy.toml if the hospital agrees",
        )
    ceiling = delta_ceiling(policy, patients)
    if study.privacy.delta is not None and study.privacy.delta > ceiling:
        raise SynthwardError(
            "policy.dp-epsilon",
            f"the study's delta is {study.privacy.delta:.3g}; with {patients} training patients at most {ceiling:.3g}",
            why="delta is the chance that the bound does not hold, and has to be small for every single patient",
            do="ask the study's lead for a smaller delta",
        )


def reserve(
    store: PrivateStore,
    reading: Reading,
    policy: Policy,
    *,
    own_epsilon: float | None = None,
    now: Callable[[], datetime] = clock,
) -> int:
    """Writes a reading into the ledger as spent, if the budget reaches; the reservation's number, for `commit`.

    Call it before the first private pixel is read for it. own_epsilon: what the study asks for; all readings for the
    same subject together stay within it, those of a job that was killed included.
    Raises policy.dp-budget and then nothing was written, or trust.ledger where the ledger itself is not whole.
    """
    while True:
        with store.reading.begin() as connection:
            check_whole(connection, ledger)
            found, at = facts(connection, ledger), latest(connection, ledger, now())
        _afford(found, reading, policy, at.year, own_epsilon)  # seconds of work, so without the write lock
        with store.engine.begin() as connection:
            again = latest(connection, ledger, now())
            if facts(connection, ledger) == found and again.year == at.year:
                return add_reserved(connection, ledger, reading, again)
        # Another job has paid meanwhile, or the year has changed: what was added up is not what stands there.


def commit(store: PrivateStore, reservation: int) -> None:
    """Says that a reserved reading has ended as planned. Twice is once."""
    with store.engine.begin() as connection:
        mark_committed(connection, ledger, reservation)


def reserved(store: PrivateStore, subject: str) -> list[Fact]:
    """Readings for a release or measurement that were paid for and not committed: a job was killed in them.

    A job that goes on from a checkpoint finds its own here, and pays only for the steps that it does a second time.
    """
    with store.reading.begin() as connection:
        return [fact for fact in facts(connection, ledger) if fact.subject == subject and fact.state == RESERVED]


def spent(found: Sequence[Fact], year: int | None, delta: float) -> Spent:
    """What was spent in a calendar year (None: ever), at a delta or the smallest of the readings if that is smaller."""
    counted = [fact for fact in found if year is None or fact.year == year]
    readings = [fact.noised for fact in counted if fact.noised is not None]
    return Spent(_together(readings, delta), len(readings), len(counted) - len(readings))


def left(policy: Policy, this_year: Spent) -> float:
    """What the policy leaves of the year's epsilon, at least 0. Readings compose: one more of that size may fit."""
    return max(0.0, policy.max_epsilon_per_year - this_year.epsilon.prv)


def _afford(found: Sequence[Fact], reading: Reading, policy: Policy, year: int, own_epsilon: float | None) -> None:
    earlier = [(fact, fact.noised) for fact in found if fact.noised is not None]
    if own_epsilon is not None:
        own = [paid for fact, paid in earlier if fact.subject == reading.subject]
        _check("this release alone", [*own, reading], own_epsilon, "the study asks for")
    same_year = [paid for fact, paid in earlier if fact.year == year]
    _check(f"the year {year}", [*same_year, reading], policy.max_epsilon_per_year, "the hospital's policy allows")


def _together(readings: Sequence[Reading], delta: float) -> Epsilon:
    # The smallest delta: an epsilon at a larger one would be smaller, and hold for none of the others.
    return epsilon([reading.event for reading in readings], min([delta, *(reading.delta for reading in readings)]))


def _check(what: str, readings: Sequence[Reading], limit: float, whose: str) -> None:
    together = _together(readings, readings[-1].delta)
    if not together.prv <= limit or math.isinf(together.prv):
        raise SynthwardError(
            "policy.dp-budget",
            f"with this reading, {what} would come to epsilon {together.prv:.4g} (PRV, delta {together.delta:.3g}); "
            f"{whose} {limit:.4g}",
            why="what is spent cannot be taken back, and readings that were reserved count whether or not they ended",
            do=_ASK,
        )
