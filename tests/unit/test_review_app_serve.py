"""synthward-site review-page: it listens where the settings say, on loopback unless told otherwise, and stops."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from typer.testing import CliRunner

from shared.files import write_atomic
from shared.identity import new_signing_key
from shared.settings_files import to_toml
from site_node.cli import app
from site_node.settings import Home, Settings
from tests.helpers import free_port, until
from tests.sites import make_site


def configured(folder: Path, settings: Settings) -> Home:
    """A site with these settings."""
    home = make_site(folder, new_signing_key())
    write_atomic(home.settings_file, to_toml(settings.model_dump()).encode())
    return home


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    port = free_port()
    home = configured(tmp_path / "site", Settings(review_port=port))
    command = [sys.executable, "-m", "site_node.cli", "review-page", "--home", str(home.path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: answers(port) or process.poll() is not None)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/sign-in", timeout=10) as answer:
            assert "For the stewards of north" in answer.read().decode()
            assert "Server" not in answer.headers
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    assert f"http://127.0.0.1:{port}/" in told
    assert "Traceback" not in told


def answers(port: int) -> bool:
    """Whether something answers there."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/sign-in", timeout=2).close()
    except OSError:
        return False
    return True


def test_it_does_not_listen_where_other_machines_could_reach_it(tmp_path: Path) -> None:
    home = configured(tmp_path / "site", Settings(review_bind="0.0.0.0"))  # noqa: S104
    done = CliRunner().invoke(app, ["review-page", "--home", str(home.path)])
    assert done.exit_code == 2
    assert "settings.invalid" in done.output
    assert "review_behind_proxy" in done.output
