"""How an error crosses gRPC: as a status and a code from shared.errors, never as text that this side wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import grpc

from shared.errors import CODES, ExitCode, SynthwardError, public_text

_CODE_KEY = "synthward-code"
_STATUS = {
    ExitCode.USAGE: grpc.StatusCode.INVALID_ARGUMENT,
    ExitCode.INPUT: grpc.StatusCode.INVALID_ARGUMENT,
    ExitCode.TRUST: grpc.StatusCode.PERMISSION_DENIED,
    ExitCode.POLICY: grpc.StatusCode.FAILED_PRECONDITION,
    ExitCode.STATE: grpc.StatusCode.FAILED_PRECONDITION,
    ExitCode.STORAGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ExitCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
# What a caller may try again: the rest is final until somebody changes something.
_RETRIED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}


def abort(context: grpc.ServicerContext, error: SynthwardError) -> NoReturn:
    """Ends a call with the error's code and public text."""
    context.set_trailing_metadata(((_CODE_KEY, error.code),))
    context.abort(_STATUS.get(error.exit_code, grpc.StatusCode.INTERNAL), error.public())
    raise AssertionError("grpc's abort returned")


def error_from(call: grpc.RpcError) -> SynthwardError:
    """The error that the other side meant, or unavailable.service when it said nothing that we know."""
    status = call.code() if isinstance(call, grpc.Call) else grpc.StatusCode.UNKNOWN
    code = code_told(call.trailing_metadata()) if isinstance(call, grpc.Call) else ""
    if code:
        return SynthwardError(code, f"the other side answered: {public_text(code)}")
    return SynthwardError(
        "unavailable.service",
        f"the other side cannot be reached ({status.name})",
        why="the network, its certificate or the service itself",
        do="nothing is lost: it is tried again; if it lasts, run doctor and compare addresses and certificates",
    )


def code_told(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The code of ours with which a call ended; empty where it ended with none that we know."""
    code = str(dict(trailing_metadata or ()).get(_CODE_KEY, ""))
    return code if code in CODES else ""


def is_worth_retrying(call: Exception) -> bool:
    """Whether the same call may succeed later without anybody changing anything."""
    return isinstance(call, grpc.RpcError) and isinstance(call, grpc.Call) and call.code() in _RETRIED
