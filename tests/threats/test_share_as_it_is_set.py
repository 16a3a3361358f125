"""The limits of a site's share are those of settings.toml, in the service and in an import; and the service clears up.

What the limits do: test_share_of_a_site.py, test_refused_and_halfway.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

import coordinator.service
from coordinator.admission import Admission
from coordinator.cli import app
from coordinator.limits import DEFAULT
from coordinator.release_service import start_services
from coordinator.running import initialise
from coordinator.settings import Home, Settings
from coordinator.store.shares import begin_bundle, held_by_site
from coordinator.store.store import PublishedStudy, Site, Store
from shared.bundle import Manifest, PairEntry
from shared.documents import canonical, sign
from shared.errors import ExitCode
from shared.identity import load_signing_key, new_signing_key, public_bytes
from shared.pairs import sha256_hex
from shared.png import MAX_PNG_BYTES
from shared.study import Study
from tests.conformance.records import HOUR, actions, digest, stated
from tests.helpers import free_port, manifest_of, refused, small_study, until
from tests.threats.test_metrics_name_nobody import while_it_serves

GB = 10**9


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A coordinator that lets a site have one gigabyte."""
    made = Home(tmp_path / "coordinator")
    ports = {name: free_port() for name in ("enrolment_port", "releases_port", "fleet_port", "flower_port")}
    initialise(made, Settings.model_validate({"name": "trial", "site_share_gb": 1, **ports}))
    return made


@pytest.fixture
def site_key(home: Home) -> Ed25519PrivateKey:
    """Of a site that is enrolled there."""
    key, store = new_signing_key(), Store(home.database_url())
    store.invite("north", digest("north"), HOUR, actor="operator")
    store.enrol(digest("north"), Site("north", "active", "1", public_bytes(key.public_key()), b"flower", 1))
    return key


def published(home: Home, **changes: object) -> tuple[Study, PublishedStudy]:
    study = small_study(**changes)
    payload = canonical(study)
    signed = PublishedStudy(
        sha256_hex(payload), payload, sign(load_signing_key(home.keys / "signing.key"), "study", payload)
    )
    Store(home.database_url()).publish(signed, actor="operator")
    return study, signed


def stating(study: Study, count: int) -> Manifest:
    """A manifest whose objects have count bytes in all, to within one object. Nobody has them."""
    pairs = [
        PairEntry(image=f"{2 * n:064x}", mask=f"{2 * n + 1:064x}", image_bytes=MAX_PNG_BYTES, mask_bytes=MAX_PNG_BYTES)
        for n in range(count // (2 * MAX_PNG_BYTES))
    ]
    return manifest_of(study, "north", pairs)


def test_the_service_keeps_a_site_to_the_share_that_is_set_and_clears_what_is_of_no_use(
    home: Home, site_key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(home.database_url())
    study, _ = published(home)
    _, closed = published(home, study_id="closed", closes=datetime.now(UTC) - timedelta(days=2))
    begin_bundle(store, stated("halfway", closed), DEFAULT)
    lies = home.incoming / digest("halfway") / "objects"
    lies.mkdir(parents=True)
    given: list[Admission] = []

    def started(enrolment: Any, releases: Any, *arguments: Any, **more: Any) -> Any:
        given.append(releases._admission)
        return start_services(enrolment, releases, *arguments, **more)

    def cleared() -> str:
        until(lambda: bool(actions(Store(home.database_url()), "delete-bundle")))
        return "cleared"

    monkeypatch.setattr(coordinator.service, "start_services", started)
    assert while_it_serves(partial(coordinator.service.serve, home), cleared) == "cleared"
    assert not list(home.incoming.iterdir())
    assert held_by_site(store) == {"north": len(b"manifest")}
    for count, code in ((2 * GB, "admission.share"), (GB // 2, "")):
        payload = canonical(stating(study, count))
        begin = partial(given[0].begin, "north", payload, sign(site_key, "manifest", payload))
        if code:
            with refused(code):
                begin()
        else:
            assert begin()


def test_an_import_keeps_a_site_to_the_share_that_is_set(
    home: Home, site_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    study, _ = published(home)
    for count, code in ((2 * GB, "admission.share"), (GB // 2, "portable.file")):  # the second has no objects with it
        payload = canonical(stating(study, count))
        folder = tmp_path / str(count) / "bundles" / sha256_hex(payload)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_bytes(payload)
        (folder / "manifest.sig").write_bytes(sign(site_key, "manifest", payload))
        done = CliRunner().invoke(app, ["import", str(tmp_path / str(count)), "--home", str(home.path)])
        assert done.exit_code == ExitCode.INPUT
        assert f"refused [{code}]" in done.output
