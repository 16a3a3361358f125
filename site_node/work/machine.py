"""What this machine has for training: its device, its cores, its free memory; and how many cases it trains at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from shared.errors import SynthwardError
from site_node.settings import Settings

# A worker with PyTorch and this package loaded, before its first case: 243 MiB resident; more with CUDA's libraries.
PROCESS_BYTES = 260 * 2**20
_CUDA_PROCESS_BYTES = 3 * 2**30
_CUDA_CONTEXT_BYTES = 600 * 2**20
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Workers:
    """What the administrator decided about training, as in the site's settings. 0: ours to choose."""

    workers: int = 0
    threads: int = 0
    device: str = "auto"
    ray_address: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Workers:
        """From the site's settings."""
        return cls(settings.workers, settings.threads, settings.device, settings.ray_address)


@dataclass(frozen=True)
class Room:
    """How training is laid out here: workers at once, processor threads of each."""

    workers: int
    threads: int


def pick_device(setting: str) -> str:
    """The device of a setting: auto, cpu, cuda or cuda:N. Raises training.device for one that is not there."""
    if setting == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if setting == "cpu":
        return setting
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(setting.partition(":")[2] or 0) >= count:
        raise SynthwardError(
            "training.device",
            f"settings.toml asks for {setting}, and PyTorch sees {count} CUDA devices on this machine",
            why="training would take many times as long on the processor, and nobody would have decided so",
            do='install the graphics driver and a PyTorch for it, or set device = "auto" or "cpu"',
        )
    return setting


def lay_out(asked: Workers, *, device: str, case_bytes: int, cases: int) -> Room:
    """How many workers, for cases of which the largest needs case_bytes while it trains.

    A graphics card gets one worker unless more are asked for.
    """
    cores = asked.threads or len(os.sched_getaffinity(0))
    if device == "cpu":
        most = at_once(asked.workers or cores, cases, free_bytes(), PROCESS_BYTES + case_bytes)
    elif asked.workers in (0, 1):
        most = 1  # and no question to the card, which would cost a context of its own
    else:
        on_card = at_once(asked.workers, cases, torch.cuda.mem_get_info(device)[0], _CUDA_CONTEXT_BYTES + case_bytes)
        most = at_once(on_card, cases, free_bytes(), _CUDA_PROCESS_BYTES)
    return Room(most, max(1, cores // most))


def at_once(wanted: int, cases: int, free: int, each: int) -> int:
    """How many of `wanted` workers have a case to train and each their bytes of memory; never less than one."""
    return max(1, min(wanted, cases, free // each))


def free_bytes() -> int:
    """Memory that can still be had: the machine's, or what a control group (a container, a service) leaves."""
    return max(0, min([psutil.virtual_memory().available, *_left_in_groups(_CGROUPS, Path("/proc/self/cgroup"))]))


def _left_in_groups(root: Path, membership: Path) -> Iterator[int]:
    """What is left under the limit of this process's control group (version 2) and of each one above it."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, name = line.split(":", 2)
        if number != "0":
            continue
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            try:
                limit, used = (folder / "memory.max").read_text(), (folder / "memory.current").read_text()
            except OSError:
                continue  # the root has none, nor has a group without the memory controller
            if limit.strip() != "max":
                yield int(limit) - int(used)
