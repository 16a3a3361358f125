"""Runs a command on a network of its own, whose only way out is a wire that is read: nobody can ask a host unseen.

    python -m tests.end_to_end.alone FILE COMMAND...

Whatever is sent past loopback, by whichever library, a lookup of a name too, goes to a TUN device and becomes a line
of FILE. The first line is our own, to 192.0.2.7 (RFC 5737): without it the wire would not have been one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from site_node.work.no_network import leave_network

CONTROL = "17 to 192.0.2.7 port 9"  # 17: UDP
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # <linux/if_tun.h>
_TUN = Path("/dev/net/tun")
_NO_VERSION_SIX = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")


def can_be_alone() -> bool:
    """Whether this machine lets us make such a network."""
    return os.geteuid() == 0 and os.access(_TUN, os.R_OK | os.W_OK) and shutil.which("ip") is not None


def main(file: Path, command: list[str]) -> int:
    """The command's exit status."""
    if not leave_network():
        raise SystemExit("no network of its own")
    if _NO_VERSION_SIX.exists():
        _NO_VERSION_SIX.write_text("1")  # the kernel would look for routers by itself
    wire = os.open(_TUN, os.O_RDWR)
    fcntl.ioctl(wire, _TUNSETIFF, struct.pack("16sH", b"out", _IFF_TUN | _IFF_NO_PI))
    for words in ("link set lo up", "addr add 192.0.2.1/24 dev out", "link set out up", "route add default dev out"):
        subprocess.run(["ip", *words.split()], check=True)
    threading.Thread(target=_read, args=(wire, file), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        control.sendto(b"", ("192.0.2.7", 9))
    return subprocess.run(command, check=False).returncode


def _read(wire: int, file: Path) -> None:
    with file.open("a", buffering=1) as lines:
        while True:
            packet = os.read(wire, 65536)
            lines.write(_told(packet) + "\n")


def _told(packet: bytes) -> str:
    if packet[0] >> 4 != 4:
        return f"version {packet[0] >> 4}"
    payload = packet[4 * (packet[0] & 15) :]
    port = f" port {int.from_bytes(payload[2:4])}" if len(payload) >= 4 else ""
    return f"{packet[9]} to {socket.inet_ntoa(packet[16:20])}{port}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
