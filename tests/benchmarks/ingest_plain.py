"""What gRPC alone does with the same bytes: python -m tests.benchmarks.ingest_plain PORT KEY CERTIFICATE AUTHORITY.

The same TLS, the same messages, as many threads as there are sites, and nothing done with a message but to send it back
(Echo) or to drop it (Sink).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc

from shared.wire import synthward_pb2 as pb
from tests.benchmarks.ingest_sites import ECHO, SINK
from tests.helpers import HOST, free_port

_MOST_AT_ONCE = 128


def _echo(requests: Iterator[pb.Chunk], _context: grpc.ServicerContext) -> Iterator[pb.Chunk]:
    yield from requests


def _sink(requests: Iterator[pb.Chunk], _context: grpc.ServicerContext) -> pb.Chunk:
    for _ in requests:
        pass
    return pb.Chunk()


def serve(port: int, key: bytes, certificate: bytes, authority: bytes) -> None:
    """Until the process ends."""
    kinds = {"request_deserializer": pb.Chunk.FromString, "response_serializer": pb.Chunk.SerializeToString}
    service, _, name = ECHO.strip("/").partition("/")
    handlers = {
        name: grpc.stream_stream_rpc_method_handler(_echo, **kinds),
        SINK.rpartition("/")[2]: grpc.stream_unary_rpc_method_handler(_sink, **kinds),
    }
    server = grpc.server(futures.ThreadPoolExecutor(_MOST_AT_ONCE))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority, require_client_auth=True
    )
    server.add_secure_port(f"{HOST}:{port}", credentials)
    server.start()
    server.wait_for_termination()


@contextmanager
def running_plain(keys: Path) -> Iterator[str]:
    """A plain server with a coordinator's keys; its address."""
    port = free_port()
    files = [str(keys / name) for name in ("server.key", "server.crt", "ca.crt")]
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.ingest_plain", str(port), *files])
    try:
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


if __name__ == "__main__":
    serve(int(sys.argv[1]), *(Path(name).read_bytes() for name in sys.argv[2:5]))
