"""Sites that send at once, many to a process: python -m tests.benchmarks.ingest_sites KIND ADDRESS OBJECTS SITE...

KIND: upload (Begin, Upload, Finish, as the outbox does), echo or sink (the same chunks to a plain gRPC server), or
heartbeat (the lightest call there is, again and again until standard input ends). It says `ready` when its channels
stand, starts at the next line, and prints what it measured as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from shared.journal import GENESIS
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from site_node.link.outbox import CHUNK_BYTES

ECHO, SINK = "/bench.Plain/Echo", "/bench.Plain/Sink"
_PATIENCE_S = 1800.0
_HEARTBEAT_S = 0.1


def channel_of(address: str, folder: Path) -> grpc.Channel:
    """A channel with the site's certificate, as the link opens it."""
    parts = [(folder / name).read_bytes() for name in ("ca.crt", "site.key", "site.crt")]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*parts))


def chunks(objects: Path, bundle: str, names: list[str]) -> Iterator[pb.Chunk]:
    """The messages that carry a bundle's objects."""
    for name in names:
        data = (objects / f"{name}.png").read_bytes()
        for offset in range(0, len(data), CHUNK_BYTES):
            part = data[offset : offset + CHUNK_BYTES]
            yield pb.Chunk(bundle_sha256=bundle, object_sha256=name, offset=offset, data=part)


def upload(channel: grpc.Channel, folder: Path, objects: Path) -> None:
    """The whole conversation about one bundle."""
    stub, sent = rpc.ReleasesStub(channel), json.loads((folder / "sent.json").read_text())
    manifest, signature = (folder / "manifest.json").read_bytes(), (folder / "manifest.sig").read_bytes()
    missing = stub.Begin(pb.BeginRequest(manifest=manifest, signature=signature), timeout=_PATIENCE_S).missing
    names = [line.sha256 for line in missing]
    stub.Upload(chunks(objects, sent["bundle"], names), timeout=_PATIENCE_S)
    assert stub.Finish(pb.FinishRequest(bundle_sha256=sent["bundle"]), timeout=_PATIENCE_S).receipt.payload


def plain(method: str, channel: grpc.Channel, folder: Path, objects: Path) -> None:
    """The same chunks, to a server that sends each back (ECHO) or counts them (SINK)."""
    sent = json.loads((folder / "sent.json").read_text())
    kinds = {"request_serializer": pb.Chunk.SerializeToString, "response_deserializer": pb.Chunk.FromString}
    messages = chunks(objects, sent["bundle"], sent["objects"])
    if method == ECHO:
        for _ in channel.stream_stream(method, **kinds)(messages, timeout=_PATIENCE_S):
            pass
    else:
        channel.stream_unary(method, **kinds)(messages, timeout=_PATIENCE_S)


def heartbeat(channel: grpc.Channel, stop: threading.Event) -> list[float]:
    """Seconds that each call took. Checkpoint is the lightest: a certificate checked, one transaction, a signature."""
    stub, taken = rpc.ReleasesStub(channel), []
    beat = pb.CheckpointRequest(link_sha256=GENESIS, trainer_sha256=GENESIS)
    while not stop.is_set():
        start = time.monotonic()
        stub.Checkpoint(beat, timeout=_PATIENCE_S)
        taken.append(time.monotonic() - start)
        stop.wait(_HEARTBEAT_S)
    return taken


def main() -> None:
    """See the module."""
    kind, address, objects, *names = sys.argv[1:]
    folders = [Path(name) for name in names]
    channels = [channel_of(address, folder) for folder in folders]
    for channel in channels:
        grpc.channel_ready_future(channel).result(timeout=60)
    _say("ready")
    sys.stdin.readline()
    if kind == "heartbeat":
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            beats = pool.submit(heartbeat, channels[0], stop)
            sys.stdin.read()
            stop.set()
            _say(json.dumps(beats.result()))
        return
    send: dict[str, Callable[..., Any]] = {"upload": upload, "echo": partial(plain, ECHO), "sink": partial(plain, SINK)}
    with ThreadPoolExecutor(len(channels)) as pool:
        list(pool.map(partial(_with_objects, send[kind], Path(objects)), channels, folders))
    _say(json.dumps(time.monotonic()))


def _with_objects(send: Callable[..., None], objects: Path, channel: grpc.Channel, folder: Path) -> None:
    send(channel, folder, objects)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
