"""Refused bundles, which are kept as they came until the operator discards them."""

from __future__ import annotations

from coordinator.settings import Home
from coordinator.store.shares import free, in_quarantine
from coordinator.store.store import Store
from shared.errors import SynthwardError
from shared.files import delete_folder


def discard(home: Home, store: Store, sha256: str, because: str, *, actor: str) -> bool:
    """Deletes a refused bundle and frees its site's share; False when that was done before.

    Its row stays, so that it is never accepted. Safe to repeat: the share is freed, with the journal's entry, once
    nothing is left. Raises admission.not-quarantined, storage.denied.
    """
    row = store.bundle(sha256)
    discarded_before = row is not None and row.state == "quarantined"
    if not discarded_before and sha256 not in {refused.sha256 for refused in in_quarantine(store)}:
        raise SynthwardError(
            "admission.not-quarantined",
            f"there is no bundle {sha256} in quarantine",
            do="see: synthward-coordinator quarantine list",
        )
    # In incoming too: a kill while its site took it back may have left it there.
    for folder in (home.quarantine / sha256, home.incoming / sha256):
        if not delete_folder(folder):
            raise SynthwardError(
                "storage.denied",
                f"{folder} cannot be deleted",
                why="it still takes room, and is still counted",
                do="run the same command as the user of the coordinator's service",
            )
    return free(store, sha256, actor=actor, action="discard-bundle", detail=because)
