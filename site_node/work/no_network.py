"""Takes the network from the trainer's processes: by the kernel where it lets us, and by Python always.

Two walls, since either has a gap. A network namespace of its own (Linux) leaves a process and all that it starts no
interface but a loopback that is down; it needs root, or user namespaces for everybody, which some systems forbid. The
audit hook (PEP 578) stops whatever goes through Python's `socket`, with an error that ends the job; a library that
calls the kernel by itself would pass it.

A namespace is entered by one thread alone, and PyTorch starts others as soon as it is imported. So a trainer's process
is started through this module, which imports nothing of that kind: it leaves the network, then becomes the process.

    python -m site_node.work.no_network site_node.work.worker HOME
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

from shared.errors import SynthwardError

_CLONE_NEWUSER = 0x10000000  # <linux/sched.h>
_CLONE_NEWNET = 0x40000000
# Sends something, makes somebody else send it (a resolver), or waits for somebody. Events of CPython's audit table.
_ON_A_SOCKET = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"})
_RESOLVING = frozenset(
    {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
)  # fmt: skip


class Wall(StrEnum):
    """What keeps a trainer's process off the network."""

    KERNEL = "kernel"  # no interface but loopback, and the audit hook
    PYTHON = "python"  # the audit hook alone
    NONE = "none"  # settings.toml names a Ray cluster, which is reached over the network


def started(module: str, *arguments: str, ray_address: str = "") -> list[str]:
    """The argv that starts a module of the trainer without a network; with it where a Ray cluster is to be reached."""
    through = [] if ray_address else ["site_node.work.no_network"]
    return [sys.executable, "-m", *through, module, *arguments]


def leave_network() -> bool:
    """Moves this process, which has one thread, into a network namespace without a way out; whether that was allowed.

    Root needs no user namespace, and must not take one: in it, it could no longer read what other users own.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    # Files are open to us as before, mapped or not; only without this we would seem to be "nobody".
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_bytes(b"deny")
        Path("/proc/self/uid_map").write_bytes(b"%d %d 1" % (user, user))
        Path("/proc/self/gid_map").write_bytes(b"%d %d 1" % (group, group))
    return True


def only_loopback() -> bool:
    """Whether this process has no network interface but loopback, whoever took the others away.

    False also where it may not ask: a sandbox without AF_NETLINK.
    """
    try:
        return {name for _, name in socket.if_nameindex()} <= {"lo"}
    except OSError:
        return False


def close_network(ray_address: str = "") -> Wall:
    """Ends Python's way to the network for this process, for good; what is in force now.

    From here on a connection, a bound port, a datagram or a name to be resolved raises training.network, but for
    sockets of the Unix family, which reach this machine alone. Does nothing where a Ray cluster is to be reached.
    """
    if ray_address:
        return Wall.NONE
    sys.addaudithook(_refuse)
    return Wall.KERNEL if only_loopback() else Wall.PYTHON


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    # Runs at every audited event of the process: the test that nearly always ends it comes first.
    if not event.startswith("socket."):
        return
    if event in _RESOLVING or (event in _ON_A_SOCKET and arguments[0].family != socket.AF_UNIX):
        raise SynthwardError(
            "training.network",
            f"a process of the trainer called {event}, and was stopped",
            why="it reads patient data, and nothing that it needs is on a network",
            do="find out from job.log and the installed packages who did; the site's network was not used",
        )


if __name__ == "__main__":
    leave_network()
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])  # noqa: S606 - fixed by whoever starts it
