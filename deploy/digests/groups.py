"""Which package belongs into which list of digests: by what the installed packages say that they need."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from itertools import product

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WITHOUT_DIGEST = ("torch", "torchvision")
# Each list has what these extras of Synthward need and no earlier list has; "" is Synthward without any.
GROUPS: dict[str, tuple[str, ...]] = {
    "synthward": ("",),
    "extras": ("postgres", "s3", "ray"),
    "development": ("dev",),
}
OTHER = "other"  # of the extra fuzz, which not every Python has, and of other systems
_PYTHONS = ("3.11", "3.12", "3.13")
_MACHINES = ("x86_64", "aarch64")


def pins(constraints: str) -> dict[str, str]:
    """Normalised name -> the line `name==version` of constraints.txt, in the file's order."""
    stated = [line for line in constraints.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(line.partition("==")[0]): line for line in stated}


def grouped(pinned: Iterable[str]) -> dict[str, list[str]]:
    """List -> the names in it; every pinned name is in one list, but for those WITHOUT_DIGEST.

    Needs Synthward with the extra dev installed. Raises ValueError where a package is needed that is not pinned.
    """
    left = [name for name in pinned if name not in WITHOUT_DIGEST]
    lists: dict[str, list[str]] = {}
    for group, extras in GROUPS.items():
        required = needed(extras)
        missing = sorted(required - {*pinned})
        if missing:
            raise ValueError(f"constraints.txt has no version for {missing}, needed by synthward{[*extras]}")
        lists[group] = [name for name in left if name in required]
        left = [name for name in left if name not in required]
    return lists | {OTHER: left}


def needed(extras: Iterable[str]) -> set[str]:
    """Normalised names of all that Synthward needs with these extras, on any supported Python and machine.

    Without what torch brings for graphics cards, which is not of one version, and without what is not installed.
    """
    seen: set[tuple[str, str]] = set()
    ahead = [("synthward", extra) for extra in ("", *extras)]
    while ahead:
        name, extra = ahead.pop()
        if (name, extra) not in seen:
            seen.add((name, extra))
            ahead += [(n, e) for n, e in _needs_of(name, extra) if not (name == "torch" and _of_graphics_cards(n))]
    return {name for name, _ in seen} - {"synthward"}


def _needs_of(name: str, extra: str) -> Iterable[tuple[str, str]]:
    try:
        stated = importlib.metadata.distribution(name).requires or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, stated):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**place, "extra": extra}) for place in _places()):
            yield from ((canonicalize_name(requirement.name), e) for e in ("", *requirement.extras))


def _places() -> Iterable[Mapping[str, str]]:
    for python, machine in product(_PYTHONS, _MACHINES):
        yield {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}


def _of_graphics_cards(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"
