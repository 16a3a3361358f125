"""Sealing: what was approved, whole and signed, or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.documents import canonical, verify
from shared.identity import save_key
from shared.release import State
from site_node.cases import releases
from tests.airlock_site import ONE, Site
from tests.helpers import refused


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_sealed_bundle_holds_what_was_approved_under_the_sites_signature(site: Site) -> None:
    folder = site.approved().airlock.seal(site.id, site.key, site.outbox)
    assert folder == site.outbox / site.sha256
    payload = (folder / "manifest.json").read_bytes()
    assert payload == canonical(site.release.manifest)
    verify(site.key.public_key(), "manifest", payload, (folder / "manifest.sig").read_bytes())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"manifest.json", "manifest.sig"} | {f"objects/{n}.png" for n in site.release.manifest.objects()}


@pytest.mark.parametrize("state", ["screened", "in_review"])
def test_nothing_is_sealed_before_it_is_approved(site: Site, state: str) -> None:
    if state == "in_review":
        site.airlock.review(ONE, site.id, "ada")
    with refused("airlock.state"):
        site.airlock.seal(site.id, site.key, site.outbox)
    assert list(site.outbox.iterdir()) == []


SEAL = """
import resource, signal, sys
from pathlib import Path
from shared.errors import SynthwardError
from shared.identity import load_signing_key
from site_node.airlock.workflow import Airlock
from site_node.cases import PrivateStore

private, outbox, key, release_id, limit = sys.argv[1:]
airlock = Airlock(PrivateStore(Path(private)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit is then an error, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    airlock.seal(release_id, load_signing_key(Path(key)), Path(outbox))
except SynthwardError as error:
    sys.exit(error.code)
"""


def test_on_a_full_disk_a_bundle_is_whole_or_not_there_and_sealing_again_works(tmp_path: Path) -> None:
    site = Site(tmp_path, size_px=512).approved()
    save_key(tmp_path / "signing.key", site.key)
    limit = min(size for size in site.release.manifest.objects().values() if size > 100_000) - 1
    site.store.engine.dispose()
    arguments = [site.private, site.outbox, tmp_path / "signing.key", site.id, limit]
    ended = subprocess.run([sys.executable, "-c", SEAL, *map(str, arguments)], capture_output=True, text=True)
    assert ended.stderr.strip() == "storage.full"
    assert list(site.outbox.iterdir()) == []
    assert site.release.state is State.APPROVED
    assert "seal" not in site.actions()
    folder = site.airlock.seal(site.id, site.key, site.outbox)
    assert len(list((folder / "objects").iterdir())) == len(site.release.manifest.objects())
    assert site.release.state is State.SEALED


def test_a_kill_between_writing_and_recording_is_finished_by_repeating_it(site: Site) -> None:
    site.approved()
    folder = site.airlock.seal(site.id, site.key, site.outbox)
    before = (folder / "manifest.sig").read_bytes()
    with site.store.engine.begin() as connection:  # as if the record had never been written
        connection.execute(releases.update().values(state=State.APPROVED.value))
    assert site.airlock.seal(site.id, site.key, site.outbox) == folder
    assert (folder / "manifest.sig").read_bytes() == before
    assert site.release.state is State.SEALED
