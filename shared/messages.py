"""What Flower's messages hold: a signed document one way, a code and figures the other.

    study         coordinator -> site   ConfigRecord "request" {document, signature}
                  site -> coordinator   ConfigRecord "answer"  {state, code, about}
    measurement   coordinator -> site   the same, and ArrayRecord "arrays" where the arm brings weights or pairs
                  site -> coordinator   ConfigRecord "answer"  {..., patients}, MetricRecord "metrics" when done
    comparison    coordinator -> site   the same, without arrays
    distribution  coordinator -> site   the same, with the pairs as arrays
                  site -> coordinator   ConfigRecord "answer"  {..., document}: shared.findings, canonical JSON

An answer is built here and nowhere else, so that there is one place to see what a site can say through Flower. It
names the order that it answers, so that one order's figures cannot pass for another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.documents import MAX_DOCUMENT_BYTES, parse
from shared.errors import CODES, SynthwardError
from shared.findings import Comparison, Distribution
from shared.metrics import NAMES, Metrics
from shared.orders import ComparisonRequest, DistributionRequest, MeasurementRequest

STUDY_MESSAGE = "query.study"
AnswerState = Literal["queued", "done", "refused", "failed"]
OrderKind = Literal["measurement", "comparison", "distribution"]
AnyOrder = MeasurementRequest | ComparisonRequest | DistributionRequest
ORDERS: dict[OrderKind, type[AnyOrder]] = {
    "measurement": MeasurementRequest,
    "comparison": ComparisonRequest,
    "distribution": DistributionRequest,
}
FINDINGS: dict[OrderKind, type[Comparison] | type[Distribution]] = {
    "comparison": Comparison,
    "distribution": Distribution,
}
_STATES: tuple[AnswerState, ...] = ("queued", "done", "refused", "failed")
_MAX_DOCUMENT_BYTES = 8 * 1024 * 1024


def message_type(kind: OrderKind) -> str:
    """Flower's type of the message that carries an order."""
    return f"evaluate.{kind}"


@dataclass(frozen=True)
class Answer:
    """A site's answer. about: the order's id, empty for a study.

    patients: how many hold-out patients stand behind the metrics; 0 without metrics. document: findings, canonical.
    """

    state: AnswerState
    code: str = ""
    metrics: Metrics | None = None
    patients: int = 0
    about: str = ""
    document: bytes = b""

    def to_content(self) -> RecordDict:
        """The answer as a message's content."""
        answer = ConfigRecord(
            {
                "state": self.state, "code": self.code, "patients": self.patients, "about": self.about,
                "document": self.document,
            }
        )  # fmt: skip
        if self.metrics is None:
            return RecordDict({"answer": answer})
        return RecordDict({"answer": answer, "metrics": MetricRecord({n: getattr(self.metrics, n) for n in NAMES})})


def read_answer(content: RecordDict) -> Answer:
    """The answer in a reply. A site is not trusted: raises document.malformed or metrics.range."""
    answer = content.config_records.get("answer")
    if answer is None or set(content) - {"answer", "metrics"}:
        raise _malformed("a site's reply is no answer of this version")
    state, code, patients = answer.get("state"), answer.get("code"), answer.get("patients")
    about, document = answer.get("about"), answer.get("document")
    if state not in _STATES or not isinstance(code, str) or not isinstance(patients, int):
        raise _malformed("a site's answer lacks its state or code")
    if not isinstance(about, str) or len(about) > 40 or not isinstance(document, bytes):
        raise _malformed("a site's answer does not say what it answers")
    if len(document) > _MAX_DOCUMENT_BYTES:
        raise _malformed("a site's answer is larger than any finding")
    if code and code not in CODES:
        code = "internal"  # text from outside never goes further than here
    known = next(s for s in _STATES if s == state)
    figures = content.metric_records.get("metrics")
    if figures is None:
        return Answer(known, code, about=about, document=document)
    try:
        return Answer(known, code, Metrics.model_validate(dict(figures)), max(0, patients), about, document)
    except ValidationError as error:
        raise SynthwardError("metrics.range", "a site's metrics are incomplete or outside [0, 1]") from error


def read_finding(kind: OrderKind, order: AnyOrder, answer: Answer) -> Comparison | Distribution:
    """The finding in an answer that is done. Raises document.* for another study's, version's or set's numbers."""
    found = parse(FINDINGS[kind], answer.document)
    if (found.study_sha256, found.dataset_version) != (order.study_sha256, order.dataset_version):
        raise _malformed("a site's figures are about another study or dataset")
    if isinstance(order, DistributionRequest) and getattr(found, "trained_on", None) != order.trained_on:
        raise _malformed("a site's distances are of other pairs")
    if isinstance(order, ComparisonRequest) and getattr(found, "reference", None) != order.reference:
        raise _malformed("a site's gains are over another arm")
    return found


def request(document: bytes, signature: bytes, arrays: ArrayRecord | None = None) -> RecordDict:
    """A signed document as a message's content, with what it brings; one record of arrays may go with many."""
    content = RecordDict({"request": ConfigRecord({"document": document, "signature": signature})})
    if arrays is not None:
        content["arrays"] = arrays
    return content


def array_record(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Arrays as an order brings them."""
    return ArrayRecord({name: Array(value) for name, value in arrays.items()})


def read_request(content: RecordDict) -> tuple[bytes, bytes]:
    """(document, signature) of a request. Raises document.malformed."""
    record = content.config_records.get("request", ConfigRecord())
    document, signature = record.get("document"), record.get("signature")
    if not isinstance(document, bytes) or not isinstance(signature, bytes) or len(signature) != 64:
        raise _malformed("the message holds no signed document")
    if len(document) > MAX_DOCUMENT_BYTES:  # before anybody hashes it
        raise _malformed("the message holds a document that is over the limit")
    return document, signature


def read_arrays(
    content: RecordDict, *, max_bytes: int, refuse: Callable[[str], SynthwardError]
) -> dict[str, NDArray[Any]]:
    """The arrays that came with a request. Raises what refuse makes of the reason, when they are none or too large."""
    record = content.array_records.get("arrays")
    if not isinstance(record, ArrayRecord) or sum(len(a.data) for a in record.values()) > max_bytes:
        raise refuse("the message brings no arrays, or too many")
    try:
        # numpy's own format, read without pickle by flwr; anything else in it is an error here.
        arrays = {name: array.numpy() for name, array in record.items()}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):  # an npz comes as something else
            raise TypeError("not an array")
    except Exception as error:  # numpy may raise anything on a hostile header: it asks for its memory at once
        raise refuse("what the message brings is not arrays") from error
    return arrays


def _malformed(what: str) -> SynthwardError:
    return SynthwardError("document.malformed", what)
