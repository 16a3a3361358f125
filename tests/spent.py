"""What a process has needed at most: its peak of resident memory, which Linux keeps for each process."""

from __future__ import annotations

from pathlib import Path


def peak_mb(pid: int | str = "self") -> float:
    """The most memory that a process has had resident since it began, or since `forget_peak`, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} is gone")


def forget_peak(pid: int | str = "self") -> float:
    """Starts the peak anew from what is resident now, and returns that."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return peak_mb(pid)
