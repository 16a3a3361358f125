"""What the doctor's measurements mean: each function judges one, without looking at the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import shared
from shared.identity import Validity
from site_node.certificate import NEW_INVITATION
from site_node.reach import MOST_AHEAD_S, MOST_BEHIND_S

_DISK_GB = 5.0
_LEAST_DISK_GB = 0.5
_MEMORY_GB = 2.0
_REMARK_AHEAD_S = 2.0
_REMARK_BEHIND_S = 60.0

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Found:
    """What a check found: a warning or failure also says what to do."""

    state: State
    text: str
    do: str = ""


def ours_found(found: Path, ours: Path) -> Found:
    """Whether `shared` on the import path is this installation's.

    It is a common name: another package of that name on the path would be a quiet disaster.
    """
    if found.resolve() != ours.resolve():
        return Found("failed", f"`shared` is {found}, not ours", "use a virtual environment of its own: make install")
    return Found("ok", f"version {shared.__version__}")


def certificate_found(validity: Validity, now: datetime) -> Found:
    """What a certificate's days say. now: UTC."""
    if validity.ended(now):
        return Found("failed", f"it ended on {validity.end:%Y-%m-%d %H:%M} UTC [trust.certificate-expired]",
                     NEW_INVITATION)  # fmt: skip
    if now < validity.start:
        return Found("failed", f"it starts only at {validity.start:%Y-%m-%d %H:%M} UTC", "set this machine's clock")
    left = f"{(validity.end - now).total_seconds() / 86400:.1f} days left"
    if validity.due(now):
        return Found("warning", left, "it renews itself while the site runs: start it, or see in logs/link.log why not")
    return Found("ok", left)


def clock_found(ours: datetime, theirs: datetime) -> Found:
    """What a difference between our clock and the coordinator's means. Flower bears 5 s ahead and 305 s behind."""
    ahead_s = (ours - theirs).total_seconds()
    text = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the coordinator's"
    do = "set this machine's clock by a time server (NTP); if it is right, tell the coordinator's operator"
    if ahead_s >= MOST_AHEAD_S or -ahead_s >= MOST_BEHIND_S:
        return Found("failed", f"{text}: Flower refuses this site's messages", do)
    if ahead_s >= _REMARK_AHEAD_S or -ahead_s >= _REMARK_BEHIND_S:
        return Found("warning", text, do)
    return Found("ok", "as the coordinator's, within a few seconds")


def disk_found(free_gb: float) -> Found:
    """What the free room of the site's folder says, in 10^9 bytes."""
    text, do = f"{free_gb:.1f} GB free", f"make room: a study takes some GB; {_DISK_GB:.0f} GB are advised"
    if free_gb < _LEAST_DISK_GB:
        return Found("failed", text, do)
    return Found("warning", text, do) if free_gb < _DISK_GB else Found("ok", text)


def memory_found(free_gb: float) -> Found:
    """What the memory that can still be had says, in 10^9 bytes."""
    text = f"{free_gb:.1f} GB available"
    if free_gb < _MEMORY_GB:
        return Found("warning", text, f"close other programs, or set workers = 1; {_MEMORY_GB:.0f} GB are advised")
    return Found("ok", text)


def patients_found(cases: int, training: int, holdout: int, floors: tuple[int, int]) -> Found:
    """Whether there are patients enough. floors: the policy's fewest for a release, and for a verdict of screening."""
    text = f"{cases} cases; patients: {training} to train on, {holdout} held out"
    release, screening = floors
    if training < release:
        return Found("warning", text, f"the policy's floor is {release}: no release will be made. Import more patients")
    if holdout < screening:
        return Found("warning", text, f"the screening's verdict needs {screening} held out: import more patients")
    return Found("ok", text)


def proxy_found(proxies: Sequence[str]) -> Found:
    """What stands between the site and the coordinator's services; empty: nothing."""
    named = sorted(set(proxies) - {""})
    text = "; ".join(f"through {_without_password(proxy)}" for proxy in named) or "none: straight out"
    if all(proxy.startswith("http://") for proxy in named):
        return Found("ok", text)
    return Found("failed", text, "name an http:// proxy that answers CONNECT, as proxy in settings.toml or https_proxy")


def _without_password(proxy: str) -> str:
    return proxy.rpartition("@")[2]
