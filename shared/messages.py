"""What Flower's messages hold: a signed document one way, a code or six figures the other.

    study        coordinator -> site   ConfigRecord "request" {document, signature}
                 site -> coordinator   ConfigRecord "answer"  {state, code}
    measurement  coordinator -> site   the same, and ArrayRecord "weights" where the arm brings weights
                 site -> coordinator   ConfigRecord "answer"  {state, code, patients}, MetricRecord "metrics" when done

An answer is built here and nowhere else, so that there is one place to see what a site can say through Flower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flwr.app import ConfigRecord, MetricRecord, RecordDict
from pydantic import ValidationError

from shared.errors import CODES, SynthwardError
from shared.metrics import NAMES, Metrics

STUDY_MESSAGE = "query.study"
MEASUREMENT_MESSAGE = "evaluate.measurement"
AnswerState = Literal["queued", "done", "refused", "failed"]
_STATES: tuple[AnswerState, ...] = ("queued", "done", "refused", "failed")


@dataclass(frozen=True)
class Answer:
    """A site's answer. patients: how many hold-out patients stand behind the metrics; 0 without metrics."""

    state: AnswerState
    code: str = ""
    metrics: Metrics | None = None
    patients: int = 0

    def to_content(self) -> RecordDict:
        """The answer as a message's content."""
        answer = ConfigRecord({"state": self.state, "code": self.code, "patients": self.patients})
        if self.metrics is None:
            return RecordDict({"answer": answer})
        return RecordDict({"answer": answer, "metrics": MetricRecord({n: getattr(self.metrics, n) for n in NAMES})})


def read_answer(content: RecordDict) -> Answer:
    """The answer in a reply. A site is not trusted: raises document.malformed or metrics.range."""
    answer = content.config_records.get("answer")
    if answer is None or set(content) - {"answer", "metrics"}:
        raise SynthwardError("document.malformed", "a site's reply is no answer of this version")
    state, code, patients = answer.get("state"), answer.get("code"), answer.get("patients")
    if state not in _STATES or not isinstance(code, str) or not isinstance(patients, int):
        raise SynthwardError("document.malformed", "a site's answer lacks its state or code")
    if code and code not in CODES:
        code = "internal"  # text from outside never goes further than here
    known = next(s for s in _STATES if s == state)
    figures = content.metric_records.get("metrics")
    if figures is None:
        return Answer(known, code)
    try:
        return Answer(known, code, Metrics.model_validate(dict(figures)), max(0, patients))
    except ValidationError as error:
        raise SynthwardError("metrics.range", "a site's metrics are incomplete or outside [0, 1]") from error


def request(document: bytes, signature: bytes) -> RecordDict:
    """A signed document as a message's content."""
    return RecordDict({"request": ConfigRecord({"document": document, "signature": signature})})


def read_request(content: RecordDict) -> tuple[bytes, bytes]:
    """(document, signature) of a request. Raises document.malformed."""
    record = content.config_records.get("request", ConfigRecord())
    document, signature = record.get("document"), record.get("signature")
    if not isinstance(document, bytes) or not isinstance(signature, bytes) or len(signature) != 64:
        raise SynthwardError("document.malformed", "the message holds no signed document")
    return document, signature
