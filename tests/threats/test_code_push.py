"""A SuperLink that pushes code: the site's node takes the message, and the code is neither run nor written anywhere."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from coordinator.rounds.announce import Delivery, announce
from coordinator.rounds.flower_run import flower_run, online_nodes
from coordinator.service import superlink
from shared.flower_environment import flower_environment
from shared.identity import load_signing_key
from shared.messages import Answer
from shared.pairs import sha256_hex
from shared.supervise import Child
from site_node.jobs import Queue
from site_node.link.node import node_command
from tests.sites import make_study, signed
from tests.superlink import connected_site, running_superlink

_PATIENCE_S = 90.0


def hostile_application(marker: Path) -> dict[str, bytes]:
    """A Flower application that touches marker as soon as anybody imports it."""
    return {
        "pyproject.toml": b"""[project]
name = "hostile"
version = "1.0.0"
description = "x"
dependencies = []
[tool.flwr.app]
publisher = "mallory"
[tool.flwr.app.components]
serverapp = "evil:app"
clientapp = "evil:app"
""",
        "evil.py": f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "from flwr.clientapp import ClientApp\napp = ClientApp()\n".encode(),
    }


def test_code_that_the_superlink_pushes_is_never_run_or_unpacked(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    application = hostile_application(marker)
    with running_superlink(tmp_path / "coordinator") as coordinator:
        site, node_id = connected_site(tmp_path / "site", coordinator)
        environment = flower_environment(site.flower)
        children = [
            Child("node", node_command(site), site.logs / "node.log", environment),
            Child("link", [sys.executable, "-m", "site_node.link.service", str(site.path)], site.logs / "link.log",
                  environment),
        ]  # fmt: skip
        answers: list[Answer] = []
        try:
            for child in children:
                child.start()
            deadline = time.monotonic() + _PATIENCE_S
            while node_id not in online_nodes(superlink(coordinator)):
                assert time.monotonic() < deadline, "the node did not connect"
                time.sleep(0.1)
            payload, signature = signed(load_signing_key(coordinator.keys / "signing.key"), make_study())
            delivery = Delivery("north", node_id, sha256_hex(payload), payload, signature)
            with flower_run(superlink(coordinator), application=application) as (grid, _context):
                announce(grid, [delivery], lambda _d, answer: answers.append(answer), timeout_s=_PATIENCE_S)
        finally:
            for child in reversed(children):
                child.stop()
    assert answers == [Answer("queued")], "the site answered with its own client"
    assert len(Queue(site.exchange).jobs()) == 1
    assert not marker.exists()
    written = [path for path in site.path.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if b"it-ran" in path.read_bytes()] == []
    assert list(site.flower.rglob("apps")) == []


def test_the_pushed_code_would_have_told_on_whoever_ran_it(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    (tmp_path / "evil.py").write_bytes(hostile_application(marker)["evil.py"])
    subprocess.run([sys.executable, "-c", "import evil"], cwd=tmp_path, check=True)
    assert marker.exists()
