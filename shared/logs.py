"""Structured logs: one JSON line an event on standard error, with an allow-list of keys.

A key that is not on the list is dropped, and an exception is told by its type and place, never by its text, also where
it ends a thread or the process: a careless call cannot write a file's name, a patient or a pixel into a log that is
shipped elsewhere.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

ALLOWED_KEYS = frozenset(
    {"event", "level", "timestamp", "logger", "code", "method", "bundle", "site", "study", "job", "state"}
    | {"error", "trace", "seconds", "process", "exit", "port", "attempt"}
)


def configure(level: int = logging.INFO) -> None:
    """Sets up structlog for a process, and what is written when the process or one of its threads dies."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_allowed,
            _where_it_failed,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    sys.excepthook = _died
    threading.excepthook = lambda told: _died(told.exc_type, told.exc_value, told.exc_traceback)


def _died(kind: type[BaseException], _error: BaseException | None, trace: TracebackType | None) -> None:
    """In place of Python's own words about what nobody caught, which end with the exception's text."""
    if not issubclass(kind, SystemExit):
        structlog.get_logger().critical("died", error=kind.__name__, trace=_places(trace))


def _where_it_failed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as its type and the lines of code it came through; never its text, which may name a file."""
    if event.pop("exc_info", None):
        kind, _, trace = sys.exc_info()
        event["error"] = kind.__name__ if kind else ""
        event["trace"] = _places(trace)
    return event


def _places(trace: TracebackType | None) -> list[str]:
    """The lines of code of a trace, without their folders."""
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]


def _only_allowed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if key in ALLOWED_KEYS | {"exc_info"}}
