"""What is fuzzed: one function a reader, which takes any bytes.

Whatever the bytes are, a target ends quietly or with a SynthwardError, whose code is registered by construction; any
other exception is a finding. Signatures are made here with the true keys, since whoever attacks may be who has them.
"""

from __future__ import annotations

import atexit
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, RecordDict

from coordinator.capture import Capture
from coordinator.portable import Importer
from coordinator.store.store import Site
from shared.bundle import AuditSummary, Manifest, PairEntry, Receipt, bundle_sha256, check_object
from shared.checkpoint import Checkpoint
from shared.documents import Kind, canonical, parse, sign
from shared.errors import CODES, SynthwardError
from shared.findings import Comparison, Distribution
from shared.identity import new_signing_key, public_bytes
from shared.messages import ORDERS, OrderKind, read_arrays, request
from shared.orders import ComparisonRequest, DistributionRequest, MeasurementRequest
from shared.pairs import sha256_hex
from shared.png import decode_png, encode_png
from shared.revocation import Revocation
from shared.study import Document, Study
from site_node.jobs import Queue
from site_node.link.client_app import take_study
from site_node.link.orders import take_order
from site_node.settings import Home
from tests.helpers import Coordinator
from tests.hostile_pngs import MARK, chunk, header, png
from tests.sites import make_site, make_study

Target = Callable[[bytes], None]
MODELS: tuple[type[Document], ...] = (
    Study, Manifest, MeasurementRequest, ComparisonRequest, DistributionRequest, Receipt, Revocation, Checkpoint,
    Comparison, Distribution, PairEntry, AuditSummary,
)  # fmt: skip
SIDE_PX = 64
_ORDERS: tuple[OrderKind, ...] = tuple(ORDERS)
KINDS: tuple[Kind, ...] = ("study", *_ORDERS)
SITE = "north"


def documents(data: bytes) -> None:
    """The first byte chooses a model, the rest is its document; what is taken has one spelling."""
    if data:
        model, payload = MODELS[data[0] % len(MODELS)], data[1:]
        with _refusals():
            assert canonical(parse(model, payload)) == payload


def manifest(data: bytes) -> None:
    """A manifest, and the first object that it names, which is the manifest's own bytes."""
    with _refusals():
        read = parse(Manifest, data)
        assert bundle_sha256(read) == sha256_hex(data)
        assert len(read.objects()) <= 2 * len(read.pairs)
        check_object(data, read, as_mask=bool(len(data) % 2))


def pngs(data: bytes) -> None:
    """The first byte chooses: the bytes as they are; as a stream of pixels, compressed or not; as one more chunk."""
    if not data:
        return
    kind, rest = data[0] % 4, data[1:]
    side = 1 + (rest[0] if rest else 0) % SIDE_PX
    file = {
        0: lambda: rest,
        1: lambda: png(MARK, chunk(b"IDAT", zlib.compress(rest, 6)), first=header(side, side)),
        2: lambda: png(MARK, chunk(b"IDAT", rest), first=header(side, side)),
        3: lambda: png(MARK, chunk((rest[:4] + b"IDAT")[:4], rest[4:]), first=header(side, side)),
    }[kind]()
    with _refusals():
        pixels = decode_png(file, max_side_px=SIDE_PX)
        assert max(pixels.shape[:2]) <= SIDE_PX
        assert encode_png(pixels) == file


def arrays(data: bytes) -> None:
    """What comes with an order, as numpy's own files."""
    record = ArrayRecord({"a": Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=data)})
    with _refusals():
        read_arrays(RecordDict({"arrays": record}), max_bytes=2**20, refuse=_mismatch)


def orders(data: bytes) -> None:
    """A study or an order as the site's link takes it, signed with the coordinator's key; arrays behind a NUL byte."""
    if not data:
        return
    home, key = site()
    kind = KINDS[data[0] % len(KINDS)]
    document, _, extra = data[1:].partition(b"\0")
    content = request(document, sign(key, kind, document))
    if extra:
        array = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=extra)
        content["arrays"] = ArrayRecord({"a": array})
    queue = Queue(home.exchange)
    with _refusals():
        if kind == "study":
            take_study(home, queue, content)
        else:
            take_order(home, queue, next(k for k in _ORDERS if k == kind), content, key.public_key())
    queue.engine.dispose()


def portable(data: bytes) -> None:
    """A medium as `synthward-coordinator import` finds it: a bundle's folder, its files cut out of the bytes.

    The first byte: whether the manifest is signed by the site that it names, and whether its folder has its digest.
    """
    if not data:
        return
    here, key = coordinator()
    files = list(cut(data[1:]))
    payload = files[0] if files else b""
    signature = sign(key, "manifest", payload) if data[0] & 1 else payload[:64]
    name = sha256_hex(payload) if data[0] & 2 else "0" * 64
    with tempfile.TemporaryDirectory(dir=here.folder) as medium:
        folder = Path(medium) / "bundles" / name
        (folder / "objects").mkdir(parents=True)
        (folder / "manifest.json").write_bytes(payload)
        (folder / "manifest.sig").write_bytes(signature)
        for file in files[1:]:
            (folder / "objects" / f"{sha256_hex(file)}.png").write_bytes(file)
        importer = Importer(here.store, here.admission(), Capture(None))
        outcomes = importer.take_in(Path(medium))
    assert [outcome.code in CODES for outcome in outcomes if outcome.state == "refused"].count(False) == 0
    for outcome in outcomes:
        if outcome.state == "accepted":
            for line in parse(Manifest, payload).pairs:
                decode_png(here.objects.get(line.image))


def cut(data: bytes) -> Iterator[bytes]:
    """Files that stand in the bytes one behind the other, each behind its length in two bytes."""
    while len(data) >= 2:
        (length,) = struct.unpack_from(">H", data)
        yield data[2 : 2 + length]
        data = data[2 + length :]


def joined(files: list[bytes]) -> bytes:
    """The bytes that `cut` takes apart."""
    return b"".join(struct.pack(">H", len(file)) + file for file in files)


def words() -> list[str]:
    """What stands in honest documents and files, for the fuzzer to put together: names of fields, choices, chunks."""
    found = {"IHDR", "IDAT", "IEND", "tEXt", "PLTE", "tRNS", "descr", "fortran_order", "shape"}
    for model in MODELS:
        schema = model.model_json_schema()
        for part in (schema, *schema.get("$defs", {}).values()):
            for name, field in part.get("properties", {}).items():
                found |= {name, *(str(value) for value in (*field.get("enum", ()), field.get("const", "")) if value)}
    return sorted(word for word in found if word.isascii() and word.isprintable())


class _refusals:
    """Lets an error with a code pass, and nothing else."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        return isinstance(error, SynthwardError) and error.code in CODES


def _mismatch(what: str) -> SynthwardError:
    return SynthwardError("weights.mismatch", what)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="synthward-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def site() -> tuple[Home, Ed25519PrivateKey]:
    """A site that has taken a study, and the coordinator's key."""
    key = new_signing_key()
    home = make_site(_folder() / "site", key, name=SITE)
    Queue(home.exchange).take_study(canonical(seed_study()))
    return home, key


@cache
def coordinator() -> tuple[Coordinator, Ed25519PrivateKey]:
    """A coordinator without its services, and the key of its one site."""
    here, key = Coordinator(_folder() / "coordinator"), new_signing_key()
    here.publish(seed_study())
    here.store.invite(SITE, "0" * 64, timedelta(hours=1), actor="operator")
    here.store.enrol("0" * 64, Site(SITE, "active", "1", public_bytes(key.public_key()), b"f", 1))
    return here, key


def seed_study() -> Study:
    """The study that fuzzed orders and bundles are about: it closes in a time that no fuzzing sees."""
    return make_study(image={"size_px": 32}, closes="2999-01-01T00:00:00Z")


TARGETS: dict[str, Target] = {
    "documents": documents,
    "manifest": manifest,
    "pngs": pngs,
    "arrays": arrays,
    "orders": orders,
    "portable": portable,
}
