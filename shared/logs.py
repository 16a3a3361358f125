"""Structured logs: one JSON line an event on standard error, with an allow-list of keys.

A key that is not on the list is dropped, so that a careless call cannot write a file's name, a patient or a pixel into
a log that is shipped elsewhere.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

ALLOWED_KEYS = frozenset(
    {"event", "level", "timestamp", "logger", "code", "method", "bundle", "site", "study", "job", "state"}
    | {"error", "seconds", "process", "exit", "port", "attempt"}
)


def configure(level: int = logging.INFO) -> None:
    """Sets up structlog for a process."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_allowed,
            # Tracebacks are for whoever reads the log on this machine; they hold lines of our code, not of the data.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _only_allowed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if key in ALLOWED_KEYS | {"exc_info"}}
