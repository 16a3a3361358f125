"""The hospital's policy: whatever a study asks, what holds is never looser, and every refusal has its code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SynthwardError
from shared.privacy import AccessKind, PrivacyStatement
from shared.study import Study
from site_node.policy import Policy, check, policy_sha256, read_policy, terms, write_policy
from tests.helpers import refused
from tests.sites import make_study

unhurried = settings(deadline=None, max_examples=50)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
policies = st.builds(
    Policy,
    privacy_modes=st.lists(st.sampled_from(["audited", "dp"]), max_size=2, unique=True).map(tuple),
    generators=st.sampled_from([(), ("per_case",), ("cohort",), ("cohort", "per_case")]),
    min_patients=st.integers(1, 500),
    min_holdout_patients=st.integers(1, 500),
    holdout_fraction=st.floats(0.01, 0.99),
    max_image_size_px=st.integers(32, 512),
    max_samples_per_case=st.integers(1, 100),
    max_evaluation_steps=st.integers(1, 20_000),
    max_correlation=st.floats(0.01, 1.0),
    metric_decimals=st.integers(1, 6),
    style_from_real=st.booleans(),
    max_epsilon_per_year=st.floats(0.1, 20.0),
    dp_delta=st.one_of(st.just("auto"), st.floats(1e-9, 1e-2)),
    min_dp_patients=st.integers(1, 500),
    stewards=st.lists(names, max_size=3, unique=True).map(tuple),
    required_approvals=st.integers(1, 5),
)

KINDS = ["cohort", "per_case"]
STYLES = [
    {"kind": "none"},
    {"kind": "moments", "source": "cohort"},
    {"kind": "moments", "source": "public"},
]


SYNTHETIC = ["synthetic_own", "synthetic_pooled"]


@st.composite
def studies(draw: st.DrawFn) -> Study:
    dp = draw(st.booleans())
    privacy = {"mode": "dp", "epsilon": draw(st.floats(0.1, 10.0)), "delta": 1e-6} if dp else {"mode": "audited"}
    return make_study(
        closes=datetime.now(UTC) + timedelta(seconds=draw(st.sampled_from([-1, 3600]))),
        image={"size_px": draw(st.integers(1, 16)) * 32},
        generator={
            "kind": draw(st.sampled_from(["cohort", "per_case"])),
            "samples_per_case": draw(st.integers(1, 100)),
        },
        style=draw(
            st.sampled_from([{"kind": "none"}, *({"kind": "moments", "source": s} for s in ("cohort", "public"))])
        ),
        privacy=privacy,
        release={"min_patients": draw(st.integers(1, 500)), "max_correlation": draw(st.floats(0.01, 1.0))},
        evaluation={"steps": draw(st.integers(2, 20_000)), "arms": draw(st.sampled_from([["real_own"], SYNTHETIC]))},
    )


@unhurried
@given(policies, studies())
def test_what_holds_is_never_looser_than_the_policy_or_the_study(policy: Policy, study: Study) -> None:
    holds = terms(policy, study)
    assert holds.min_patients == max(policy.min_patients, study.release.min_patients)
    assert holds.max_correlation == min(policy.max_correlation, study.release.max_correlation)
    assert holds.min_holdout_patients >= policy.min_holdout_patients
    assert holds.metric_decimals <= policy.metric_decimals


def bounded(policy: Policy, study: Study) -> bool:
    """Whether a study in mode dp asks for nothing that no noise bounds, and for no more than the policy spends."""
    assert study.privacy.epsilon is not None
    assert study.privacy.delta is not None
    return (
        study.generator.kind == "cohort"
        and study.style.source in ("none", "public")
        and list(study.evaluation.arms) == SYNTHETIC
        and study.privacy.epsilon <= policy.max_epsilon_per_year
        and (policy.dp_delta == "auto" or study.privacy.delta <= policy.dp_delta)
    )


@unhurried
@given(policies, studies())
def test_a_study_passes_exactly_when_the_policy_allows_all_of_it(policy: Policy, study: Study) -> None:
    allowed = (
        study.closes > datetime.now(UTC)
        and study.privacy.mode in policy.privacy_modes
        and (study.privacy.mode == "audited" or bounded(policy, study))
        and study.generator.kind in policy.generators
        and (study.style.source in ("none", "public") or policy.style_from_real)
        and study.image.size_px <= policy.max_image_size_px
        and study.generator.samples_per_case <= policy.max_samples_per_case
        and study.evaluation.steps <= policy.max_evaluation_steps
    )
    if allowed:
        check(policy, study)
    else:
        with pytest.raises(SynthwardError, match=r"\[policy\."):
            check(policy, study)


@unhurried
@given(policies, studies(), st.integers(0, 500), st.floats(0.01, 1.0))
def test_a_stricter_policy_never_lets_out_more(policy: Policy, study: Study, more: int, share: float) -> None:
    changes = {"min_patients": policy.min_patients + more, "max_correlation": policy.max_correlation * share}
    stricter = policy.model_copy(update=changes)
    before, after = terms(policy, study), terms(stricter, study)
    assert after.min_patients >= before.min_patients
    assert after.max_correlation <= before.max_correlation


OPEN = Policy(stewards=("ada",))


def test_the_study_of_these_tests_is_allowed_without_a_change() -> None:
    check(OPEN, make_study())


@pytest.mark.parametrize(
    ("policy", "study", "code"),
    [
        ({}, {"closes": datetime.now(UTC) - timedelta(seconds=1)}, "policy.expired"),
        ({"privacy_modes": ()}, {}, "policy.privacy-mode"),
        ({}, {"privacy": {"mode": "dp", "epsilon": 1.0, "delta": 1e-6}}, "policy.privacy-mode"),
        ({"generators": ()}, {}, "policy.generator"),
        ({"max_image_size_px": 63}, {}, "policy.image-size"),
        ({"max_samples_per_case": 1}, {}, "policy.samples"),
        ({"max_evaluation_steps": 1}, {}, "policy.steps"),
    ],
)
def test_each_refusal_has_its_code(policy: dict[str, object], study: dict[str, object], code: str) -> None:
    with refused(code):
        check(OPEN.model_copy(update=policy), make_study(**study))


def test_a_study_closes_to_the_second() -> None:
    study = make_study()
    check(OPEN, study, now=study.closes - timedelta(microseconds=1))
    with refused("policy.expired"):
        check(OPEN, study, now=study.closes)


def test_differential_privacy_that_would_be_empty_is_refused_with_its_reason() -> None:
    study = make_study(
        privacy={"mode": "dp", "epsilon": 1.0, "delta": 1e-6}, generator={"kind": "per_case"},
        evaluation={"arms": ["synthetic_own", "synthetic_pooled"]},
    )  # fmt: skip
    willing = OPEN.model_copy(update={"privacy_modes": ("audited", "dp"), "generators": ("cohort", "per_case")})
    with pytest.raises(SynthwardError) as caught:
        check(willing, study)
    assert caught.value.code == "policy.dp-generator"
    assert "training set of one" in caught.value.why
    assert caught.value.do


@pytest.mark.parametrize(
    "privacy", [{"mode": "dp"}, {"mode": "dp", "epsilon": 1.0}, {"mode": "audited", "epsilon": 1.0},
                {"mode": "dp", "epsilon": float("inf"), "delta": 1e-6}, {"mode": "dp", "epsilon": 1.0, "delta": 1.0}],
)  # fmt: skip
def test_a_study_cannot_claim_half_a_guarantee(privacy: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"epsilon|delta"):
        make_study(privacy=privacy)


def test_a_privacy_statement_never_says_anonymous_or_private_without_a_mechanism() -> None:
    kinds: tuple[AccessKind, ...] = ("training", "style", "screening", "metrics")
    statement = PrivacyStatement.model_validate({"accesses": [{"kind": kind} for kind in kinds]})
    words = " ".join([statement.label(), *statement.sentences()]).lower()
    assert "differentially private" not in words
    assert "does not make them anonymous" in words
    assert words.count("anonym") == 1
    assert words.count("no mechanism bounds") == len(kinds)


def test_a_privacy_statement_that_hides_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="must say so"):
        PrivacyStatement.model_validate({"accesses": [{"kind": "metrics"}]})


# The file


@unhurried
@given(policies)
def test_a_written_policy_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, policy: Policy) -> None:
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    write_policy(path, policy)
    assert read_policy(path) == policy
    assert policy_sha256(read_policy(path)) == policy_sha256(policy)


def test_every_line_of_a_written_policy_is_explained(tmp_path: Path) -> None:
    write_policy(tmp_path / "policy.toml", Policy())
    lines = (tmp_path / "policy.toml").read_text().splitlines()
    for name in Policy.model_fields:
        at = next(n for n, line in enumerate(lines) if line.startswith(f"{name} ="))
        assert lines[at - 1].startswith("# ")


def test_a_new_policy_lets_nobody_approve() -> None:
    assert Policy().stewards == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("min_patient = 5\n", "min_patient"),
        ("min_patients = 0\n", "min_patients"),
        ('min_patients = "5"\nx', "not TOML"),
        ('privacy_modes = ["audited", "none"]\n', "privacy_modes.1"),
        ("max_correlation = nan\n", "max_correlation"),
        ("max_epsilon_per_year = inf\n", "max_epsilon_per_year"),
        ('dp_delta = "never"\n', "dp_delta"),
        ("dp_delta = 1.0\n", "dp_delta"),
        ("max_correlation = 1.5\n", "max_correlation"),
        ('stewards = ["Ada Lovelace"]\n', "stewards.0"),
        ("required_approvals = 0\n", "required_approvals"),
        ("min_patients = 5\nmin_patients = 6\n", "not TOML"),
    ],
)
def test_a_mistake_in_the_policy_is_refused_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(SynthwardError) as caught:
        read_policy(path)
    assert caught.value.code == "policy.file"
    assert place in caught.value.what
    assert str(path) in caught.value.what


def test_a_policy_that_is_not_there_is_no_open_door(tmp_path: Path) -> None:
    with refused("settings.missing"):
        read_policy(tmp_path / "policy.toml")
