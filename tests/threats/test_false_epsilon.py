"""T08 at the coordinator: a bundle whose epsilon is smaller than its own noise gives is never admitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.claims import MOST_STEPS, RATES, SIGMAS, check_claim
from shared.bundle import AuditSummary, Manifest
from shared.dp_accounting import epsilon_of
from shared.privacy import DP_NOT_COVERED, Access, DpClaim, PrivacyStatement
from shared.study import PrivacySpec, Study
from site_node.settings import Home
from tests.helpers import Coordinator, caller, manifest_of, noise_pair, png_objects, refused, small_study

DELTA, SIGMA, STEPS = 1e-3, 3.7, 602
TRUE = epsilon_of([(SIGMA, 0.1, STEPS)], DELTA)
ASKED = PrivacySpec(mode="dp", epsilon=2.0, delta=DELTA)
TRAINING = {
    "kind": "training", "mechanism": "poisson-sampled-gaussian", "sigma": SIGMA, "q": 0.1, "steps": STEPS, "clip": 1.0,
}  # fmt: skip


def claim(training: dict[str, Any] | None = None, **changes: Any) -> DpClaim:
    """What an honest site with this noise would claim, with changes; the site's own figures go along."""
    values: dict[str, Any] = {
        "delta": DELTA, "epsilon_prv": TRUE.prv, "epsilon_rdp": TRUE.rdp, "noised": [TRAINING | (training or {})],
    } | changes  # fmt: skip
    own = {"site_epsilon_prv": values["epsilon_prv"], "site_epsilon_rdp": values["epsilon_rdp"]}
    return DpClaim.model_validate(own | values)


def test_what_an_honest_site_claims_is_believed() -> None:
    check_claim(claim(), ASKED)


@pytest.mark.parametrize(
    "false",
    [
        claim(epsilon_prv=0.9 * TRUE.prv),
        claim(epsilon_rdp=0.9 * TRUE.rdp),
        claim({"sigma": 0.9 * SIGMA}),
        claim({"steps": 2 * STEPS}),
        claim({"q": 0.12}),
        claim({"q": 1.0, "mechanism": "gaussian"}),
        claim(delta=DELTA / 10.0),
        claim(noised=[TRAINING, {**TRAINING, "kind": "moments"}]),
        claim({"kind": "metrics"}),
        claim({"sigma": SIGMAS[0] / 2.0}),
        claim({"sigma": 2.0 * SIGMAS[1]}),
        claim({"q": RATES[0] / 2.0}),
        claim({"steps": MOST_STEPS + 1}),
        claim(noised=[TRAINING] * 21),
        claim({"sigma": SIGMAS[0], "q": 1.0, "steps": MOST_STEPS}),
    ],
    ids=lambda one: f"{one.noised[0].brief()} {one.epsilon_prv:.3g} {len(one.noised)}",
)
def test_an_epsilon_that_the_stated_noise_does_not_give_is_refused(false: DpClaim) -> None:
    with refused("admission.epsilon"):
        check_claim(false, ASKED)


@pytest.mark.parametrize(
    "asked", [{"epsilon": 1.9, "delta": DELTA}, {"epsilon": 2.0, "delta": DELTA / 2.0}], ids=["epsilon", "delta"]
)
def test_more_than_the_study_asked_for_is_refused_however_true(asked: dict[str, float]) -> None:
    with refused("admission.study"):
        check_claim(claim(), PrivacySpec.model_validate({"mode": "dp", **asked}))


@settings(max_examples=10)
@given(sigma=st.floats(1.0, 20.0), steps=st.integers(1, 400), share=st.floats(0.5, 1.5))
def test_a_claim_is_believed_exactly_where_it_is_not_below_a_gaussians_own_figure(
    sigma: float, steps: int, share: float
) -> None:
    """Of steps over everybody: their sum is one Gaussian release, which is accounted for in no time."""
    true = epsilon_of([(sigma, 1.0, steps)], DELTA)
    said = DpClaim.model_validate(
        claim({"sigma": sigma, "q": 1.0, "steps": steps}).model_dump()
        | {name: share * figure for name, figure in (("epsilon_prv", true.prv), ("epsilon_rdp", true.rdp))}
        | {"site_epsilon_prv": 2.0 * true.prv, "site_epsilon_rdp": 2.0 * true.rdp}
    )
    generous = PrivacySpec(mode="dp", epsilon=1e6, delta=DELTA)
    if share >= 1.0:
        check_claim(said, generous)
    elif share < 0.99:
        with refused("admission.epsilon"):
            check_claim(said, generous)


# Over the wire


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(
        small_study(
            privacy={"mode": "dp", "epsilon": 2.0, "delta": DELTA},
            evaluation={"steps": 2, "arms": ["synthetic_own", "synthetic_pooled"]},
        )
    )


@pytest.fixture
def site(coordinator: Coordinator, tmp_path: Path) -> Home:
    return coordinator.join(tmp_path / "north", "north")


def bundle(study: Study, told: DpClaim) -> tuple[Manifest, dict[str, bytes]]:
    entries, objects = png_objects([noise_pair(1), noise_pair(2)])
    privacy = PrivacyStatement(
        mode="dp", accesses=(Access(kind="findings"),), not_covered=DP_NOT_COVERED, dp=told
    )  # fmt: skip
    audit = AuditSummary(
        verdict="inconclusive", sampled=2, accepted=2, rejected={}, planted=0, planted_found=0
    )  # fmt: skip
    return manifest_of(study, "north", entries, privacy=privacy, audit=audit), objects


def test_over_the_wire_the_true_bundle_is_accepted_and_the_false_one_leaves_no_trace(
    coordinator: Coordinator, site: Home, study: Study
) -> None:
    false, objects = bundle(study, claim(epsilon_prv=0.5 * TRUE.prv))
    with caller(site) as service, refused("admission.epsilon"):
        service.send_all(site, false, objects)
    assert not coordinator.accepted()
    assert not coordinator.stored_objects()
    true, objects = bundle(study, claim())
    with caller(site) as service:
        assert service.send_all(site, true, objects).receipt
    assert len(coordinator.accepted()) == 1
