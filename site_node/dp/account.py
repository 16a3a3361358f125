"""The site's account, as `synthward-site ledger` tells it: the facts, epsilon by calendar year, and what is left.

Figures are for one patient, as an upper bound: every noised reading is counted as if it had read everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from site_node.cases import PrivateStore, ledger
from site_node.dp.budget import Spent, left, spent
from site_node.dp.events import rate, times
from site_node.dp.ledger import Fact, check_whole, clock, facts, latest
from site_node.policy import Policy

COLUMNS = ["at", "kind", "patients", "mechanism", "noise", "state", "subject"]
# Where no reading states a delta, there is no epsilon either and this one is never used.
_NO_DELTA = 1e-6


@dataclass(frozen=True)
class Account:
    """years: what was spent in each calendar year with a reading. this_year: the one that new readings count in."""

    facts: tuple[Fact, ...]
    years: dict[int, Spent]
    in_all: Spent
    this_year: int
    left: float
    limit: float

    def as_json(self) -> dict[str, Any]:
        """For programs. An epsilon of readings without noise is infinite, and has no number here."""
        return {
            "facts": [_fact_json(fact) for fact in self.facts],
            "years": {str(year): _spent_json(one) for year, one in self.years.items()},
            "in_all": _spent_json(self.in_all),
            "this_year": self.this_year,
            "max_epsilon_per_year": self.limit,
            "left_this_year": self.left,
        }

    def sentences(self) -> list[str]:
        """For people."""
        lines = [_words(str(year), one) for year, one in self.years.items()] + [_words("In all", self.in_all)]
        lines.append(
            f"Left in {self.this_year}: epsilon {self.left:.4g} of {self.limit:.4g} by PRV, which the policy goes by. "
            "Readings compose: one more costs less than it would alone."
        )
        if self.in_all.unaccounted:
            lines.append("Nothing bounds the readings without noise, and so nothing bounds all readings together.")
        return lines


def read_account(store: PrivateStore, policy: Policy) -> Account:
    """The account. Raises trust.ledger where a fact that the journal counted is gone or was changed."""
    with store.reading.begin() as connection:
        check_whole(connection, ledger)
        found = facts(connection, ledger)
        this_year = latest(connection, ledger, clock()).year
    delta = min((fact.noised.delta for fact in found if fact.noised is not None), default=_NO_DELTA)
    years = {year: spent(found, year, delta) for year in sorted({this_year, *(fact.year for fact in found)})}
    return Account(
        tuple(found), years, spent(found, None, delta), this_year, left(policy, years[this_year]),
        policy.max_epsilon_per_year,
    )  # fmt: skip


def fact_row(fact: Fact) -> list[str]:
    """A fact as a line of the table with COLUMNS."""
    noise = "none: epsilon is infinite"
    if fact.noised is not None:
        event = fact.noised.event
        noise = f"σ {event.sigma:.4g}, q {rate(event):.4g}, {times(event)} steps, clip {fact.noised.clip:.4g}"
    return [fact.at[:19], fact.kind, str(fact.patients), fact.mechanism, noise, fact.state, fact.subject]


def _words(when: str, one: Spent) -> str:
    return (
        f"{when}: {one.noised} noised readings, epsilon {one.epsilon.prv:.4g} by PRV and {one.epsilon.rdp:.4g} by RDP "
        f"at delta {one.epsilon.delta:.3g}; {one.unaccounted} readings without noise."
    )


def _spent_json(one: Spent) -> dict[str, Any]:
    return {
        "epsilon_prv": one.epsilon.prv, "epsilon_rdp": one.epsilon.rdp, "delta": one.epsilon.delta,
        "noised": one.noised, "unaccounted": one.unaccounted,
    }  # fmt: skip


def _fact_json(fact: Fact) -> dict[str, Any]:
    line: dict[str, Any] = {
        "at": fact.at, "study_sha256": fact.study_sha256, "kind": fact.kind, "mechanism": fact.mechanism,
        "patients": fact.patients, "subject": fact.subject,
    }  # fmt: skip
    if fact.noised is not None:
        reading, event = fact.noised, fact.noised.event
        line |= {
            "sigma": event.sigma, "q": rate(event), "steps": times(event), "clip": reading.clip,
            "delta": reading.delta, "unit": reading.unit, "relation": reading.relation, "who": reading.who,
            "state": fact.state,
        }  # fmt: skip
    return line
