"""When the coordinator last answered: noted beside every call to the release service."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from shared.wire.status import code_told


class Contact(grpc.UnaryUnaryClientInterceptor, grpc.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    """at: Unix time of the last answer, 0 before any. A refusal is an answer too; a broken connection is none."""

    def __init__(self) -> None:
        self.at = 0.0

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Calls on, and notes the answer."""
        return self._noted(continuation(details, request))

    def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        """Calls on, and notes the answer."""
        return self._noted(continuation(details, requests))

    def _noted(self, call: Any) -> Any:
        if call.code() is grpc.StatusCode.OK or code_told(call.trailing_metadata()):
            self.at = time.time()
        return call
