"""Records to put into a store, and threads that do the same thing at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

from coordinator.limits import Limits
from coordinator.store.shares import Stated, begin_bundle
from coordinator.store.store import PublishedStudy, Site, Store
from shared.documents import canonical
from shared.pairs import sha256_hex
from shared.study import Study
from tests.sites import make_study

Answer = TypeVar("Answer")
HOUR = timedelta(hours=1)
NO_LIMITS = Limits(unfinished=10**6, share_bytes=10**18, reserve_bytes=0)


def digest(text: str) -> str:
    """A digest of something."""
    return sha256_hex(text.encode())


def site(name: str, key: bytes = b"key") -> Site:
    """A site as enrolment would record it; its Flower node's number needs more than 63 bits."""
    return Site(name, "active", f"serial-{name}", key, b"flower-" + key, 2**64 - 1)


def enrol(store: Store, name: str) -> Site:
    """A site that was invited and has enrolled."""
    store.invite(name, digest(name), HOUR, actor="operator")
    store.enrol(digest(name), site(name))
    return site(name)


def publish(store: Store, **changes: object) -> PublishedStudy:
    """A study that stands in the store."""
    study: Study = make_study(**changes)
    payload = canonical(study)
    published = PublishedStudy(sha256_hex(payload), payload, b"signature")
    store.publish(published, actor="operator")
    return published


def incoming(store: Store, name: str = "bundle", by: str = "north") -> str:
    """A bundle that was begun; its digest."""
    (study,) = store.studies() or [publish(store)]
    if by not in {known.name for known in store.sites()}:
        enrol(store, by)
    begin_bundle(store, stated(name, study, by), NO_LIMITS)
    return digest(name)


def stated(name: str, study: PublishedStudy, by: str = "north", objects_bytes: int = 1000) -> Stated:
    """A bundle as its site would state it."""
    return Stated(digest(name), study.sha256, by, b"manifest", b"signature", objects_bytes)


def at_once(calls: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """What calls answer that threads make at the same moment; the first error, if there is one."""
    barrier = threading.Barrier(len(calls))

    def wait_and_call(call: Callable[[], Answer]) -> Answer:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and_call, calls))


def actions(store: Store, action: str) -> list[str]:
    """The subjects of the journal's entries of one action."""
    return [entry.subject for entry in store.journal() if entry.action == action]
