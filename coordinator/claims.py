"""Whether the epsilon that a bundle claims is what its own noise gives, and what the study asked for.

A site is not trusted with arithmetic: sigma, sampling rate and steps stand in its statement, and from them both figures
are computed here again, by the accountants that an honest site used. What this cannot know is whether the site did what
it states, nor what else it has read: the figures for the site as a whole rest on its word.
"""

from __future__ import annotations

from shared.errors import SynthwardError
from shared.privacy import DpClaim
from shared.study import PrivacySpec

# What is accounted here at all: beyond it nothing useful lies, and accounting would take long or overflow.
SIGMAS, RATES = (0.1, 1_000.0), (1e-6, 1.0)
MOST_STEPS, MOST_READINGS, LEAST_DELTA = 1_000_000, 20, 1e-12
# Of a figure: two versions of the accountants may differ by their tolerance, which is half a percent.
_SLACK = 0.01


def check_claim(claim: DpClaim, asked: PrivacySpec) -> None:
    """Raises admission.study where the study did not ask for this, and admission.epsilon where it is not borne out."""
    epsilon, delta = asked.epsilon or 0.0, asked.delta or 0.0
    if claim.epsilon_prv > epsilon or claim.delta > delta:
        raise SynthwardError("admission.study", "the bundle's epsilon or delta is over the study's")
    if all(access.kind != "training" for access in claim.noised):
        raise _refused("its statement names no noised training, and a generator learns from somebody")
    if not _can_be_accounted(claim):
        raise _refused("its noise, rates, steps or delta are outside of what is accounted")
    from shared.dp_accounting import epsilon_of, rdp_of  # torch comes with it, which audited studies never need here

    mechanisms = [(access.sigma, access.q, access.steps) for access in claim.noised]
    try:
        _compare("RDP", claim.epsilon_rdp, rdp_of(mechanisms, claim.delta))  # first, being the quick one
        _compare("PRV", claim.epsilon_prv, epsilon_of(mechanisms, claim.delta).prv)
    except (ArithmeticError, ValueError, RuntimeError) as error:  # of a grid that cannot hold such noise
        raise _refused("no accountant gives a figure for its noise") from error


def _compare(accountant: str, said: float, computed: float) -> None:
    if not said >= (1.0 - _SLACK) * computed:
        raise _refused(f"it claims epsilon {said:.6g} by {accountant}; its noise gives {computed:.6g}")


def _can_be_accounted(claim: DpClaim) -> bool:
    return (
        len(claim.noised) <= MOST_READINGS
        and sum(access.steps for access in claim.noised) <= MOST_STEPS
        and claim.delta >= LEAST_DELTA
        and all(SIGMAS[0] <= access.sigma <= SIGMAS[1] for access in claim.noised)
        and all(RATES[0] <= access.q <= RATES[1] for access in claim.noised)
    )


def _refused(what: str) -> SynthwardError:
    return SynthwardError(
        "admission.epsilon",
        f"the bundle's privacy statement does not hold: {what}",
        why="every label and report would repeat an epsilon that the site's noise does not give",
        do="state what the site's ledger says; an honest site of this version does",
    )
