"""T08, a false claim of privacy: a statement says no more than its readings bear, all of it, and in plain words.

Epsilon is recomputed from what a statement says, by code that shares nothing with the accountant that made it.
"""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bundle import Manifest
from shared.documents import canonical, digest, parse
from shared.errors import SynthwardError
from shared.pairs import sha256_hex
from shared.privacy import (
    ACCESS_WORDS,
    DP_NOT_COVERED,
    NOISED_WORDS,
    NOT_COVERED_WORDS,
    Access,
    AccessKind,
    PrivacyStatement,
)
from site_node.dp.events import GaussianRelease, Noised, PoissonSampledGaussian, Reading
from site_node.dp.ledger import Fact, statement
from tests.helpers import manifest_of, noise_pair, png_objects, small_study
from tests.privacy_loss import epsilon_by_losses

unhurried = settings(deadline=None, max_examples=60)
DELTA = 1 / 2000


def fact(event: Noised | None, kind: AccessKind, subject: str) -> Fact:
    """A line of the ledger."""
    at, study = "2026-11-21T10:00:00+00:00", "5" * 64
    if event is None:
        return Fact(at, study, kind, "none", 200, subject)
    reading = Reading(event, kind, study, subject, "trainer", clip=1.0, delta=DELTA, patients=200)
    return Fact(at, study, kind, "", 200, subject, reading, 1, "committed")


TRAINING = fact(PoissonSampledGaussian(3.5, 0.08, 600), "training", "release-1")
MOMENTS = fact(GaussianRelease(8.0), "moments", "release-1")
OTHER = fact(GaussianRelease(6.0, 2), "metrics", "m-1")
TOLD = statement([TRAINING, MOMENTS, OTHER, fact(None, "style", "release-0")], "release-1")


def words(told: PrivacyStatement) -> str:
    return " ".join([told.label(), *told.sentences()])


def changed(**changes: Any) -> dict[str, Any]:
    """The fields of a statement in mode dp, with changes; `dp__x` reaches into the claim."""
    fields = TOLD.model_dump(mode="json")
    for name, value in changes.items():
        if name.startswith("dp__"):
            fields["dp"][name.removeprefix("dp__")] = value
        else:
            fields[name] = value
    return fields


def test_epsilon_recomputed_from_the_statement_alone_is_the_one_that_it_claims() -> None:
    claim = TOLD.dp
    assert claim is not None
    own = [(access.sigma, access.q, access.steps) for access in claim.noised]
    assert claim.epsilon_prv == pytest.approx(epsilon_by_losses(own, claim.delta), rel=0.01)
    assert claim.site_epsilon_prv == pytest.approx(epsilon_by_losses([*own, (6.0, 1.0, 2)], claim.delta), rel=0.01)
    assert claim.epsilon_prv <= claim.epsilon_rdp <= 1.3 * claim.epsilon_prv


def test_the_label_says_all_that_the_word_private_needs() -> None:
    assert TOLD.dp is not None
    label = TOLD.label()
    assert "Differentially private" in label
    needed = [
        "patient at one site", "add or remove one patient", "poisson-sampled-gaussian", "σ = 3.5", "q = 0.08",
        "steps 600", "clip 1", "δ = 0.0005", "PRV", "RDP", "gaussian, σ = 8", "not covered",
    ]  # fmt: skip
    assert [word for word in needed if word not in label] == []
    for figure in (TOLD.dp.epsilon_prv, TOLD.dp.epsilon_rdp, TOLD.dp.site_epsilon_prv, TOLD.dp.site_epsilon_rdp):
        assert any(figure <= shown < 1.01 * figure for shown in numbers(label))  # rounded, and never down


def numbers(text: str) -> list[float]:
    found = []
    for word in text.replace(",", " ").replace(";", " ").replace("(", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            continue
    return found


def test_the_sentences_name_every_reading_and_everything_that_is_not_covered() -> None:
    told = words(TOLD)
    assert NOISED_WORDS["training"] in told
    assert NOISED_WORDS["moments"] in told
    assert [item for item in DP_NOT_COVERED if NOT_COVERED_WORDS[item] not in told] == []
    assert f"without noise for something else: {ACCESS_WORDS['style']}" in told
    assert "stream cipher keyed by the operating system" in told


def test_nothing_that_is_differentially_private_is_called_anonymous() -> None:
    assert "anonym" not in words(TOLD).lower()


audited = st.lists(st.sampled_from(sorted(ACCESS_WORDS)), max_size=6).map(
    lambda kinds: PrivacyStatement(accesses=tuple(Access(kind=kind) for kind in ["training", *kinds]))
)


@unhurried
@given(audited)
def test_no_audited_statement_says_differentially_private(told: PrivacyStatement) -> None:
    assert "differential" not in words(told).lower()
    assert "epsilon" not in words(told).lower()
    assert "ε" not in words(told)


@pytest.mark.parametrize(
    "changes",
    [
        {"accesses": [{"kind": "style"}]},
        {"accesses": [{"kind": "screening"}]},
        {"accesses": [{"kind": "training", "mechanism": "noised"}]},
        {"mode": "audited"},
        {"mode": "audited", "accesses": [{"kind": "training"}]},
        {"dp": None},
        {"not_covered": ["steward-choice"]},
        {"dp__epsilon_prv": 0.0},
        {"dp__epsilon_prv": float("inf")},
        {"dp__site_epsilon_prv": 0.1},
        {"dp__site_epsilon_rdp": 0.1},
        {"dp__delta": 0.0},
        {"dp__delta": 1.0},
        {"dp__noised": []},
        {"dp__relation": "replace one patient"},
        {"dp__noised": [{"kind": "training", "mechanism": "gaussian", "sigma": 1, "q": 0.1, "steps": 1, "clip": 1}]},
        {"dp__noised": [{"kind": "training", "mechanism": "gaussian", "sigma": 0, "q": 1, "steps": 1, "clip": 1}]},
        {"unit": "image"},
    ],
    ids=str,
)
def test_a_claim_that_is_not_borne_out_or_not_complete_is_no_statement(changes: dict[str, Any]) -> None:
    PrivacyStatement.model_validate(changed())
    with pytest.raises(ValueError, match="validation error"):
        PrivacyStatement.model_validate(changed(**changes))


@pytest.mark.parametrize("kind", ["training", "style", "moments", "screening", "metrics"])
def test_a_reading_without_noise_for_the_release_itself_leaves_nothing_to_claim(kind: AccessKind) -> None:
    told = statement([TRAINING, MOMENTS, fact(None, kind, "release-1")], "release-1")
    assert told.mode == "audited"
    assert told.dp is None
    assert told.label().startswith("Audited, without a formal guarantee")
    assert kind in [access.kind for access in told.accesses if access.mechanism == "none"]


def test_what_the_steward_alone_is_shown_is_named_and_takes_no_claim_away() -> None:
    told = statement([TRAINING, fact(None, "findings", "release-1")], "release-1")
    assert told.mode == "dp"
    assert ACCESS_WORDS["findings"] in words(told)
    assert NOT_COVERED_WORDS["steward-choice"] in words(told)


def test_the_site_has_never_spent_less_than_one_of_its_releases() -> None:
    alone = statement([TRAINING], "release-1").dp
    together = statement([TRAINING, OTHER, fact(GaussianRelease(4.0), "outlines", "release-2")], "release-1").dp
    assert alone is not None
    assert together is not None
    assert alone.site_epsilon_prv == alone.epsilon_prv == together.epsilon_prv
    assert together.site_epsilon_prv > alone.site_epsilon_prv
    assert (alone.other_noised, together.other_noised) == (0, 2)


# Bytes


OLD = (
    b'{"accesses":[{"epsilon":null,"kind":"training_each","mechanism":"none"},{"epsilon":null,"kind":"style",'
    b'"mechanism":"none"},{"epsilon":null,"kind":"screening","mechanism":"none"}],"format":"synthward.privacy/1",'
    b'"mode":"audited","not_covered":["singling-out","steward-choice","timing-and-size","metrics"],'
    b'"unit":"patient at one site"}'
)


def test_a_statement_of_before_mode_dp_keeps_its_bytes_and_its_digest() -> None:
    kinds: tuple[AccessKind, ...] = ("training_each", "style", "screening")
    made = PrivacyStatement(accesses=tuple(Access(kind=kind) for kind in kinds))
    assert canonical(made) == OLD
    assert parse(PrivacyStatement, OLD) == made
    assert digest(made) == sha256_hex(OLD)


@pytest.mark.parametrize("told", [TOLD, PrivacyStatement(accesses=(Access(kind="training"),))])
def test_a_statement_travels_in_a_manifest_and_comes_back_equal(told: PrivacyStatement) -> None:
    entries, _ = png_objects([noise_pair(1)])
    manifest = manifest_of(small_study(), "north", entries, privacy=told)
    assert parse(Manifest, canonical(manifest)).privacy == told


def test_a_site_cannot_put_words_of_its_own_into_a_statement() -> None:
    for place in ({"dp__note": "anonymous"}, {"note": "anonymous"}, {"not_covered": [*DP_NOT_COVERED, "nothing"]}):
        with pytest.raises(SynthwardError, match="malformed"):
            parse(PrivacyStatement, rfc8785.dumps(changed(**place)))
