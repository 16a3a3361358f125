"""What a coordinator can be asked: the state of a study, and whether everything stored is what was stored."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from coordinator.admission import DOUBT
from coordinator.datasets.build import Dataset, read_pair
from coordinator.settings import Home
from coordinator.store.checkpoints import check_rollbacks
from coordinator.store.figures import journalled
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared import journal
from shared.bundle import Manifest
from shared.documents import parse
from shared.errors import SynthwardError
from shared.identity import load_signing_key, public_bytes

_POLL_S = 0.5


def study_status(home: Home, name: str) -> dict[str, Any]:
    """Each site's answer to a study, what was accepted of it, and how much it took back. Raises study.unknown.

    A site that has not answered is `waiting` while the study is open, and `missed` it once the study has closed.
    doubted: of the accepted, bundles whose masks fit their images no better than by chance (coordinator/doubts.py).
    """
    store = Store(home.database_url())
    published = store.study(name)
    closed = datetime.now(UTC) >= published.study.closes
    no_answer = ("missed" if closed else "waiting", "")
    answers = store.deliveries(published.sha256)
    rows = store.bundles(published.sha256, "accepted")
    bundles = [parse(Manifest, bytes(row.manifest)) for row in rows]
    doubts = journalled(store, DOUBT)
    revoked = [row.site for row in store.bundles(published.sha256, "revoked")]
    return {
        "study": published.study.study_id,
        "sha256": published.sha256,
        "closes": published.study.closes.isoformat(),
        "closed": closed,
        "sites": [
            {
                "site": site.name,
                "answer": answers.get(site.name, no_answer)[0],
                "code": answers.get(site.name, no_answer)[1],
                "bundles": sum(bundle.site == site.name for bundle in bundles),
                "doubted": sum(row.site == site.name and row.sha256 in doubts for row in rows),
                "revoked": revoked.count(site.name),
                "pairs": sum(len(bundle.pairs) for bundle in bundles if bundle.site == site.name),
            }
            for site in store.sites()
        ],
    }


def wait_for_bundles(home: Home, name: str, count: int, *, timeout_s: float) -> None:
    """Returns when that many releases of a study were accepted. Raises unavailable.timeout."""
    store = Store(home.database_url())
    sha256 = store.study(name).sha256
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if len(store.bundles(sha256, "accepted")) >= count:
            return
        time.sleep(_POLL_S)
    raise SynthwardError("unavailable.timeout", f"fewer than {count} releases after {timeout_s:.0f} s")


def verify_coordinator(home: Home) -> dict[str, Any]:
    """Checks the journal and every dataset's objects.

    Raises trust.journal, trust.rollback (a journal here or at a site was cut or replaced), storage.damaged or pairs.*.
    """
    store, objects = Store(home.database_url()), ObjectStore(home.objects_url())
    entries = store.journal()
    head = journal.verify(entries)
    check_rollbacks(store)
    checked = 0
    for published in store.studies():
        for row in store.datasets(published.sha256):
            for line in parse(Dataset, bytes(row.payload)).pairs:
                read_pair(objects, line)
                checked += 1
    return {
        "journal": head,
        "journal_entries": len(entries),
        "pairs_checked": checked,
        "coordinator_key": public_bytes(load_signing_key(home.keys / "signing.key").public_key()).hex(),
    }
