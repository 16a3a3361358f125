"""Signed documents: one byte form, and nothing else is believed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.documents import MAX_DOCUMENT_BYTES, Kind, canonical, digest, parse, sign, verify
from shared.errors import SynthwardError
from shared.identity import new_signing_key
from shared.study import GeneratorSpec, ReleaseSpec, Study, StyleSpec
from tests.helpers import refused
from tests.sites import make_study

unhurried = settings(deadline=None, max_examples=50)
KINDS: tuple[Kind, ...] = get_args(Kind)
KEY = new_signing_key()
STUDY = make_study(closes=datetime(2030, 1, 1, tzinfo=UTC))
PAYLOAD = canonical(STUDY)

studies = st.builds(
    Study,
    study_id=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True),
    title=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    purpose=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    closes=st.datetimes(
        min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1),
        timezones=st.just(UTC),
    ),
    generator=st.builds(GeneratorSpec, samples_per_case=st.integers(1, 100)),
    style=st.builds(StyleSpec, strength=st.floats(0.0, 1.0)),
    release=st.builds(ReleaseSpec, min_patients=st.integers(1, 10**9), max_correlation=st.floats(1e-300, 1.0)),
)  # fmt: skip


@unhurried
@given(studies)
def test_a_document_comes_back_from_its_bytes_and_has_one_digest(study: Study) -> None:
    payload = canonical(study)
    back = parse(Study, payload)
    assert back == study
    assert canonical(back) == payload
    assert digest(back) == digest(study)


def test_the_order_in_which_fields_were_given_does_not_matter() -> None:
    shuffled = dict(reversed(list(STUDY.model_dump().items())))
    assert canonical(Study.model_validate(shuffled)) == PAYLOAD


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"study_id":"trial"', b'"study_id":"other","study_id":"trial"'),
        (b'"steps":2', b'"steps":2,"steps":2'),
        (b'"study_id"', b'"run_this":"code","study_id"'),
        (b'"steps":2', b'"steps":"2"x'),
        (b'"steps":2', b'"steps":0'),
        (b'"min_patients":2', b'"min_patients":1e400'),
        (b'"min_patients":2', b'"min_patients":' + str(2**60).encode()),
        (b'"min_patients":2', b'"min_patients":' + b"9" * 5000),
        (b'"strength":0.7', b'"strength":NaN'),
        (b'"strength":0.7', b'"strength":Infinity'),
        (b'"title":"A trial"', b'"title":"\\ud800"'),
        (b'"title":"A trial"', b'"title":"\xff"'),
        (b'"synthward.study/1"', b'"synthward.study/2"'),
    ],
    ids=lambda value: value[:40].decode("latin-1"),
)
def test_a_document_beyond_its_schema_is_malformed(old: bytes, new: bytes) -> None:
    assert PAYLOAD.count(old) == 1
    with refused("document.malformed"):
        parse(Study, PAYLOAD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"steps":2', b'"steps":2.0'),
        (b'"steps":2', b'"steps":"2"'),
        (b'"strength":0.7', b'"strength":0.70'),
        (b'"strength":0.7', b'"strength":7e-1'),
        (b'"A trial"', b'"\\u0041 trial"'),
        (b"2030-01-01T00:00:00Z", b"2030-01-01T00:00:00+00:00"),
        (b'"purpose":"",', b""),
        (b"{", b"{ "),
    ],
    ids=lambda value: value.decode(),
)
def test_another_spelling_of_the_same_document_is_refused(old: bytes, new: bytes) -> None:
    assert old in PAYLOAD
    with refused("document.not-canonical"):
        parse(Study, PAYLOAD.replace(old, new, 1))


@pytest.mark.parametrize("changed", [PAYLOAD + b"\n", b" " + PAYLOAD, json.dumps(json.loads(PAYLOAD)).encode()])
def test_whitespace_is_another_spelling(changed: bytes) -> None:
    with refused("document.not-canonical"):
        parse(Study, changed)


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"1", b"[" * 200_000, b"\x80\x04K\x01.", b" " * (MAX_DOCUMENT_BYTES + 1), PAYLOAD[:-1]],
    ids=["empty", "null", "list", "number", "deep", "pickle", "long", "cut"],
)
def test_what_is_no_document_is_malformed(payload: bytes) -> None:
    with refused("document.malformed"):
        parse(Study, payload)


@unhurried
@given(st.binary(max_size=200))
def test_no_bytes_bring_the_reader_down(payload: bytes) -> None:
    with refused("document.malformed"):
        parse(Study, payload)


def test_an_error_tells_the_place_and_not_the_text() -> None:
    with pytest.raises(SynthwardError) as caught:
        parse(Study, PAYLOAD.replace(b'"study_id":"trial"', b'"study_id":"Patient 4711"'))
    assert "study_id" in str(caught.value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("signed_as", KINDS)
def test_a_signature_of_one_kind_does_not_pass_as_another(signed_as: Kind) -> None:
    signature = sign(KEY, signed_as, PAYLOAD)
    verify(KEY.public_key(), signed_as, PAYLOAD, signature)
    for other in set(KINDS) - {signed_as}:
        with refused("trust.signature"):
            verify(KEY.public_key(), other, PAYLOAD, signature)


@unhurried
@given(st.integers(0, len(PAYLOAD) * 8 - 1))
def test_any_flipped_bit_of_a_document_breaks_its_signature(bit: int) -> None:
    signature = sign(KEY, "study", PAYLOAD)
    with refused("trust.signature"):
        verify(KEY.public_key(), "study", flipped(PAYLOAD, bit), signature)


@unhurried
@given(st.integers(0, 64 * 8 - 1))
def test_any_flipped_bit_of_a_signature_breaks_it(bit: int) -> None:
    with refused("trust.signature"):
        verify(KEY.public_key(), "study", PAYLOAD, flipped(sign(KEY, "study", PAYLOAD), bit))


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(63), bytes(10_000)])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with refused("trust.signature"):
        verify(KEY.public_key(), "study", PAYLOAD, signature)


def test_another_key_does_not_fit() -> None:
    with refused("trust.signature"):
        verify(new_signing_key().public_key(), "study", PAYLOAD, sign(KEY, "study", PAYLOAD))


def test_a_study_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        make_study(closes=datetime(2030, 1, 1) + timedelta(days=1))


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit the other way."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
