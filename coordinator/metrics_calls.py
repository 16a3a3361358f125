"""Counts gRPC calls from outside of the services: how many, how long, how many bytes, with which code they ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.monitoring import OK
from shared.wire.status import code_told

_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0)


class CallMetrics(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps each method that there is; a call of any other name is answered by gRPC and counted nowhere."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter("synthward_calls", "Calls that have ended.", ["method", "code"], registry=registry)
        self._seconds = Histogram(
            "synthward_call_seconds", "How long calls took.", ["method"], buckets=_BUCKETS_S, registry=registry
        )
        self._bytes = Counter("synthward_received_bytes", "Bytes of messages.", ["method"], registry=registry)
        self._open = Gauge("synthward_calls_open", "Calls that are open.", ["method"], registry=registry)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The same handler, counted."""
        handler: Any = continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method.rpartition("/")[2].lower()
        make, work = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        if handler.request_streaming:
            make, work = grpc.stream_unary_rpc_method_handler, handler.stream_unary
        return make(
            lambda request, context: self._counted(method, work, request, context),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _counted(self, method: str, work: Callable[..., Any], request: Any, context: grpc.ServicerContext) -> Any:
        start = time.monotonic()
        self._open.labels(method).inc()
        # Anything but a return and a refusal with a code: the stream broke, or the caller has gone.
        code = "unavailable.service"
        try:
            reply = work(self._measured(method, request), context)
            code = OK
            return reply
        finally:
            self._open.labels(method).dec()
            self._calls.labels(method, code_told(context.trailing_metadata()) or code).inc()
            self._seconds.labels(method).observe(time.monotonic() - start)

    def _measured(self, method: str, request: Any) -> Any:
        if isinstance(request, Iterator):
            return self._each(method, request)
        self._bytes.labels(method).inc(request.ByteSize())
        return request

    def _each(self, method: str, requests: Iterator[Any]) -> Iterator[Any]:
        for message in requests:
            self._bytes.labels(method).inc(message.ByteSize())
            yield message
