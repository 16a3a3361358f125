"""What a site with a valid certificate, or without one, can try at the release service over real TLS."""

from __future__ import annotations

import pickle
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from PIL import Image, PngImagePlugin

from shared.bundle import Manifest, bundle_sha256, object_path
from shared.documents import canonical, sign
from shared.errors import SynthwardError
from shared.identity import CertificateAuthority, certificate_request, new_signing_key, new_tls_key
from shared.pairs import sha256_hex
from shared.png import encode_png
from shared.study import Study
from site_node.link.enrol import enrol
from site_node.settings import Home
from tests.helpers import (
    HOST,
    Caller,
    Coordinator,
    caller,
    chunks_of,
    manifest_of,
    noise_pair,
    png_objects,
    raw_entry,
    refused,
    signing_key,
    small_study,
)

UNREACHED = "unavailable.service"  # the handshake failed: nobody was there to give a code


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study())


@pytest.fixture
def site(coordinator: Coordinator, tmp_path: Path) -> Home:
    return coordinator.join(tmp_path / "north", "north")


def honest(study: Study, site: str = "north", **changes: object) -> tuple[Manifest, dict[str, bytes]]:
    """A bundle that would be accepted without the changes."""
    entries, objects = png_objects([noise_pair(1), noise_pair(2)])
    return manifest_of(study, site, entries, **changes), objects


def nothing_was_admitted(coordinator: Coordinator) -> bool:
    """No bundle accepted, no receipt, nothing in the object store."""
    return not coordinator.accepted() and not coordinator.actions("accept-bundle") and not coordinator.stored_objects()


# Who is calling


def channel_with(coordinator: Coordinator, key: bytes | None, certificate: bytes | None) -> grpc.Channel:
    """A channel that trusts the coordinator and presents this certificate, or none."""
    credentials = grpc.ssl_channel_credentials(coordinator.authority.pem, key, certificate)
    return grpc.secure_channel(f"{HOST}:{coordinator.ports[1]}", credentials)


def issued(authority: CertificateAuthority, site: str, *, days: float = 1.0) -> tuple[bytes, bytes]:
    """(key, certificate) of a site, by any authority."""
    key = new_tls_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, authority.site_certificate(certificate_request(key, site), site, days=days)


def test_the_honest_bundle_of_these_tests_is_accepted(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = honest(study)
    with caller(site) as north:
        north.send_all(site, manifest, objects)
    assert coordinator.accepted() == [bundle_sha256(manifest)]
    assert coordinator.stored_objects() == set(objects)


def test_a_caller_without_a_certificate_reaches_nothing(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, _ = honest(study)
    with channel_with(coordinator, None, None) as channel, refused(UNREACHED):
        Caller(channel).begin_sealed(site, manifest)
    assert not coordinator.actions("begin-bundle")


def test_a_plaintext_caller_reaches_nothing(coordinator: Coordinator, study: Study, site: Home) -> None:
    with grpc.insecure_channel(f"{HOST}:{coordinator.ports[1]}") as channel, refused(UNREACHED):
        Caller(channel).begin_sealed(site, honest(study)[0])


def test_a_certificate_of_another_authority_reaches_nothing(coordinator: Coordinator, study: Study, site: Home) -> None:
    key, certificate = issued(CertificateAuthority.create("test"), "north")
    with channel_with(coordinator, key, certificate) as channel, refused(UNREACHED):
        Caller(channel).begin_sealed(site, honest(study)[0])


def test_an_expired_certificate_reaches_nothing(coordinator: Coordinator, study: Study, site: Home) -> None:
    key, certificate = issued(coordinator.authority, "north", days=-1 / 1440)
    with channel_with(coordinator, key, certificate) as channel, refused(UNREACHED):
        Caller(channel).begin_sealed(site, honest(study)[0])


def test_a_genuine_certificate_that_is_not_the_sites_present_one_is_refused(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    key, certificate = issued(coordinator.authority, "north")  # our authority, the right name, another serial number
    with channel_with(coordinator, key, certificate) as channel, refused("trust.certificate"):
        Caller(channel).begin_sealed(site, honest(study)[0])


def test_a_certificate_that_a_second_enrolment_replaced_is_refused(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path
) -> None:
    manifest, _ = honest(study)
    with caller(site) as before:
        before.begin_sealed(site, manifest)
        again = coordinator.join(tmp_path / "again", "north")
        with refused("trust.certificate"):  # also on the connection that was open all the time
            before.begin_sealed(site, manifest)
    with caller(again) as after:
        assert after.begin_sealed(again, manifest).missing


def test_the_coordinators_own_certificate_may_not_send_releases(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    key = new_tls_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server = coordinator.authority.server_certificate(key, "test", [HOST])
    with channel_with(coordinator, pem, server) as channel, pytest.raises(SynthwardError) as caught:
        Caller(channel).begin_sealed(site, honest(study)[0])
    # TLS refuses it for its usage, or the service for its role: either way nothing is begun.
    assert caught.value.code in ("trust.role", UNREACHED)
    assert not coordinator.actions("begin-bundle")


# Whose bundle


def test_another_sites_name_in_the_manifest_is_refused(coordinator: Coordinator, study: Study, site: Home) -> None:
    with caller(site) as north, refused("admission.site"):
        north.begin_sealed(site, honest(study, site="south")[0])


def test_another_sites_signed_bundle_cannot_be_replayed(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path
) -> None:
    south = coordinator.join(tmp_path / "south", "south")
    manifest, objects = honest(study, site="south")
    with caller(south) as owner:
        owner.begin_sealed(south, manifest)
    sha256, payload = bundle_sha256(manifest), canonical(manifest)
    stolen = sign_as(south, payload)
    name, data = next(iter(objects.items()))
    with caller(site) as north:
        with refused("admission.site"):
            north.begin(payload, stolen)
        # It was begun by its owner, and still nobody else may add to it, finish it, or learn that it is there.
        with refused("admission.incomplete"):
            north.upload(sha256, chunks_of(name, data))
        with refused("admission.incomplete"):
            north.finish(sha256)
        with refused("admission.incomplete"):
            north.finish("f" * 64)


def sign_as(home: Home, payload: bytes) -> bytes:
    """The site's signature over a manifest."""
    return sign(signing_key(home), "manifest", payload)


def test_a_manifest_under_a_stranger_key_is_refused(coordinator: Coordinator, study: Study, site: Home) -> None:
    payload = canonical(honest(study)[0])
    with caller(site) as north:
        for signature in (sign(new_signing_key(), "manifest", payload), bytes(64), b"", sign_as(site, payload + b" ")):
            with refused("trust.signature"):
                north.begin(payload, signature)


def test_the_link_alone_cannot_sign_a_bundle(site: Home) -> None:
    # The key that signs lies in a folder of its own, not among those that the link reads.
    assert {path.name for path in site.link_keys.iterdir()} & {"signing.key"} == set()
    assert (site.seal_keys / "signing.key").stat().st_mode & 0o077 == 0


# What the manifest may say


def test_an_unknown_study_is_refused(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, _ = honest(small_study(title="never published", study_id="other"))
    with caller(site) as north, refused("admission.study"):
        north.begin_sealed(site, manifest)


def test_a_closed_study_is_refused(coordinator: Coordinator, site: Home) -> None:
    past = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    closed = coordinator.publish(small_study(study_id="closed", closes=past))
    with caller(site) as north, refused("policy.expired"):
        north.begin_sealed(site, honest(closed)[0])


@pytest.mark.parametrize("change", [{"size_px": 64}, {"channels": 1}, {"preset": "faithful"}])
def test_a_bundle_of_something_else_than_the_study_asked_is_refused(
    coordinator: Coordinator, study: Study, site: Home, change: dict[str, object]
) -> None:
    with caller(site) as north, refused("admission.study"):
        north.begin_sealed(site, honest(study, **change)[0])


def test_a_bundle_of_fewer_patients_than_the_floor_is_refused(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    with caller(site) as north:
        with refused("admission.floor"):
            north.begin_sealed(site, honest(study, training_patients=study.release.min_patients - 1)[0])
        assert north.begin_sealed(site, honest(study, training_patients=study.release.min_patients)[0]).missing


def test_more_pairs_than_agreed_are_refused(coordinator: Coordinator, site: Home) -> None:
    one = coordinator.publish(small_study(study_id="one", release={"min_patients": 2, "max_pairs": 1}))
    with caller(site) as north, refused("admission.size"):
        north.begin_sealed(site, honest(one)[0])


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"\x80\x04K\x01.", b"[" * 100_000, b'{"site":"north","site":"north"}'],
    ids=["nothing", "empty", "pickle", "deep", "twice"],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(coordinator: Coordinator, site: Home, payload: bytes) -> None:
    with caller(site) as north, refused("document.malformed"):
        north.begin(payload, bytes(64))


def test_a_field_more_in_the_manifest_is_refused(coordinator: Coordinator, study: Study, site: Home) -> None:
    payload = canonical(honest(study)[0]).replace(b'{"audit"', b'{"animals":"free text","audit"', 1)
    with caller(site) as north, refused("document.malformed"):
        north.begin(payload, sign_as(site, payload))


# What the objects may be


def test_an_object_that_the_manifest_does_not_name_is_refused(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, _ = honest(study)
    stranger = encode_png(noise_pair(99).image)
    with caller(site) as north:
        north.begin_sealed(site, manifest)
        for name in (sha256_hex(stranger), "../../quarantine/x", "/etc/passwd", ""):
            with refused("admission.unexpected"):
                north.upload(bundle_sha256(manifest), [(name, 0, stranger)])
    assert nothing_was_admitted(coordinator)


@pytest.mark.parametrize("name", ["../../escaped", "..", "/tmp/escaped", "", "A" * 64])
def test_a_bundle_name_that_is_a_path_leads_nowhere(coordinator: Coordinator, site: Home, name: str) -> None:
    with caller(site) as north:
        with refused("admission.incomplete"):
            north.upload(name, [("0" * 64, 0, b"x")])
        with refused("admission.incomplete"):
            north.finish(name)
    assert not list((coordinator.folder / "incoming").iterdir())


def test_more_bytes_than_stated_are_refused_before_they_are_written(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = honest(study)
    sha256 = bundle_sha256(manifest)
    name, data = next(iter(objects.items()))
    with caller(site) as north:
        north.begin_sealed(site, manifest)
        for offset, body in ((0, data + b"\0"), (len(data), b"\0"), (2**63, b"\0"), (0, bytes(256 * 1024 + 1))):
            with refused("admission.size"):
                north.upload(sha256, [(name, offset, body)])
        assert {missing.offset for missing in north.begin_sealed(site, manifest).missing} == {0}


def test_fewer_bytes_than_stated_never_finish(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = honest(study)
    with caller(site) as north:
        with refused("admission.incomplete"):
            north.send_all(site, manifest, {name: data[:-1] for name, data in objects.items()})
        with refused("admission.incomplete"):
            north.finish(bundle_sha256(manifest))
    assert nothing_was_admitted(coordinator)


def test_a_hole_in_an_object_is_refused(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = honest(study)
    name, data = next(iter(objects.items()))
    with caller(site) as north:
        north.begin_sealed(site, manifest)
        with refused("admission.offset"):
            north.upload(bundle_sha256(manifest), [(name, 10, data[10:])])


def test_other_bytes_under_a_stated_name_are_refused(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = honest(study)
    name, data = next(iter(objects.items()))
    with caller(site) as north:
        north.begin_sealed(site, manifest)
        with refused("admission.digest"):
            north.upload(bundle_sha256(manifest), [(name, 0, data[:-1] + bytes([data[-1] ^ 1]))])
    assert nothing_was_admitted(coordinator)


def png_with(*, width: int = 32, height: int = 32, inflated: bytes = b"") -> bytes:
    """A PNG of 8-bit RGB with any header and any stream: well formed, and not what the header says."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    stream = zlib.compress(inflated, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


class Payload:
    """Would leave a trace if anybody unpickled it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def hostile_objects(tmp_path: Path) -> dict[str, tuple[bytes, str]]:
    """name -> (a file that calls itself an object, the code that it must meet)."""
    canonical_png = encode_png(noise_pair(5).image)
    told = PngImagePlugin.PngInfo()
    told.add_text("Source", "patient 4711")
    with_text = tmp_path / "text.png"
    Image.fromarray(noise_pair(5).image).save(with_text, pnginfo=told)
    pickled = pickle.dumps(Payload(tmp_path / "executed")) + bytes(64)
    return {
        "text": (with_text.read_bytes(), "pairs.not-canonical"),
        "trailing": (canonical_png + b"PK\x03\x04 and a zip archive", "pairs.not-canonical"),
        "polyglot": (canonical_png[:33] + pickled, "pairs.not-canonical"),
        "pickle": (pickled, "pairs.not-png"),
        "script": (b"<script>fetch('//example.org')</script>" + bytes(64), "pairs.not-png"),
        "header-bomb": (png_with(width=60_000, height=60_000), "pairs.too-large"),
        "stream-bomb": (png_with(inflated=bytes(64 * 1024 * 1024)), "pairs.not-canonical"),
        "too-small": (encode_png(noise_pair(5, size_px=16).image), "pairs.shape"),
        "grey": (encode_png(noise_pair(5, channels=1).image), "pairs.shape"),
    }


@pytest.mark.parametrize(
    "kind",
    ["text", "trailing", "polyglot", "pickle", "script", "header-bomb", "stream-bomb", "too-small", "grey"],
)
def test_a_hostile_object_is_quarantined_kept_and_never_admitted(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path, kind: str
) -> None:
    hostile, code = hostile_objects(tmp_path)[kind]
    line, objects = raw_entry(hostile)
    manifest = manifest_of(study, "north", [line])
    sha256 = bundle_sha256(manifest)
    with caller(site) as north:
        with refused(code):
            north.send_all(site, manifest, objects)
        with refused("admission.quarantined"):  # for good: the same bundle has no second chance
            north.begin_sealed(site, manifest)
        with refused("admission.quarantined"):
            north.finish(sha256)
    assert not coordinator.accepted()
    assert sha256_hex(hostile) not in coordinator.stored_objects()
    assert object_path(coordinator.folder / "quarantine" / sha256, line.image).read_bytes() == hostile
    assert coordinator.actions("quarantine-bundle") == [sha256]
    assert not (tmp_path / "executed").exists()


def test_a_mask_with_grey_values_is_quarantined(coordinator: Coordinator, study: Study, site: Home) -> None:
    pair = noise_pair(5)
    line, objects = raw_entry(encode_png(pair.image), encode_png(noise_pair(5, channels=1).image))
    with caller(site) as north, refused("pairs.mask-not-binary"):
        north.send_all(site, manifest_of(study, "north", [line]), objects)
    assert not coordinator.accepted()


def test_a_refused_bundle_does_not_stand_in_the_way_of_the_next(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    line, objects = raw_entry(b"not a PNG at all, and long enough to be stated")
    manifest, good = honest(study)
    with caller(site) as north:
        with refused("pairs.not-png"):
            north.send_all(site, manifest_of(study, "north", [line]), objects)
        north.send_all(site, manifest, good)
    assert coordinator.accepted() == [bundle_sha256(manifest)]


def test_accepted_twice_is_accepted_once_with_the_same_receipt(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = honest(study)
    sha256 = bundle_sha256(manifest)
    with caller(site) as north:
        first = north.send_all(site, manifest, objects).receipt
        assert north.finish(sha256).receipt == first
        assert north.begin_sealed(site, manifest).receipt == first
    coordinator.restart()
    with caller(site) as north:
        assert north.finish(sha256).receipt == first
    assert coordinator.actions("accept-bundle") == [sha256]
    assert not (coordinator.folder / "incoming" / sha256).exists()


def test_a_receipt_does_not_outlive_the_right_to_ask_for_it(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path
) -> None:
    manifest, objects = honest(study)
    with caller(site) as north:
        north.send_all(site, manifest, objects)
    south = coordinator.join(tmp_path / "south", "south")
    with caller(south) as other, refused("admission.incomplete"):
        other.finish(bundle_sha256(manifest))


def test_what_a_site_sent_is_captured_for_the_audit_also_when_it_was_refused(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    canary = b"canary " * 16
    line, objects = raw_entry(canary)
    with caller(site) as north, refused("pairs.not-png"):
        north.send_all(site, manifest_of(study, "north", [line]), objects)
    assert canary in (coordinator.capture / "north.bundle.bin").read_bytes()


def test_keys_of_a_site_are_not_overwritten_by_a_second_enrolment(coordinator: Coordinator, site: Home) -> None:
    before = (site.seal_keys / "signing.key").read_bytes()
    with refused("trust.keys-exist"):
        enrol(site, coordinator.invite("north"))
    assert (site.seal_keys / "signing.key").read_bytes() == before
