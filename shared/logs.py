"""Structured logs: one JSON line an event on standard error, with an allow-list of keys.

A key that is not on the list is dropped, and an exception is told by its type and place, never by its text: a careless
call cannot write a file's name, a patient or a pixel into a log that is shipped elsewhere.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

ALLOWED_KEYS = frozenset(
    {"event", "level", "timestamp", "logger", "code", "method", "bundle", "site", "study", "job", "state"}
    | {"error", "trace", "seconds", "process", "exit", "port", "attempt"}
)


def configure(level: int = logging.INFO) -> None:
    """Sets up structlog for a process."""
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


def _where_it_failed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as its type and the lines of code it came through; never its text, which may name a file."""
    if event.pop("exc_info", None):
        kind, _, trace = sys.exc_info()
        event["error"] = kind.__name__ if kind else ""
        event["trace"] = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)]
    return event


def _only_allowed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if key in ALLOWED_KEYS | {"exc_info"}}
