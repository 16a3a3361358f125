"""A site's link in a process of its own, with a limit on its memory: takes messages from a folder, and answers them.

    python -m tests.link_alone HOME MAIL

MAIL holds N.kind, N.document and N.signature; one JSON line an answer goes to standard output, in the order of N.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from shared.messages import read_answer, request
from site_node.link.client_app import build_client_app
from site_node.settings import Home
from tests.spent import forget_peak, peak_mb

MOST_MB = 1024  # of address space beyond what the idle process has: more is refused by the kernel


def post(mail: Path, kind: str, document: bytes, signature: bytes) -> None:
    """Puts one message into the folder."""
    number = len(list(mail.glob("*.kind")))
    for name, data in (("document", document), ("signature", signature), ("kind", kind.encode())):
        (mail / f"{number:03d}.{name}").write_bytes(data)


def take(app: ClientApp, kind: str, document: bytes, signature: bytes) -> dict[str, object]:
    """The site's answer to one message, and what it took: seconds, and MiB over what was resident before."""
    message = Message(request(document, signature), dst_node_id=7, message_type=kind)
    before, started = forget_peak(), time.monotonic()
    reply = app(message=message, context=Context(1, 7, {}, RecordDict(), {}))
    answer = read_answer(reply.content)
    spent = {"seconds": time.monotonic() - started, "mb": peak_mb() - before}
    return {"state": answer.state, "code": answer.code, **spent}


def main(home: str, mail: str) -> None:
    """Answers every message in the folder."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    app = build_client_app(Home(Path(home)))
    idle = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (idle + MOST_MB * 2**20,) * 2)
    for path in sorted(Path(mail).glob("*.kind")):
        document, signature = (path.with_suffix(f".{name}").read_bytes() for name in ("document", "signature"))
        print(json.dumps(take(app, path.read_text(encoding="ascii"), document, signature)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
