"""Settings: strict files, which the environment may override, and a policy, which it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import Settings as CoordinatorSettings
from shared.errors import SynthwardError
from site_node.policy import Policy, read_policy, write_policy
from site_node.settings import Home, Settings


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    settings = Settings(data="/data/ä b", node_port=7000, threads=3)
    home = Home(tmp_path / "site")
    home.create(settings)
    assert home.settings() == settings
    coordinator = CoordinatorHome(tmp_path / "coordinator")
    coordinator.create(CoordinatorSettings(name="trial", hosts=("a.example", "10.0.0.1")))
    assert coordinator.settings().hosts == ("a.example", "10.0.0.1")


def test_the_environment_overrides_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "site")
    home.create(Settings(threads=1))
    monkeypatch.setenv("SYNTHWARD_SITE_THREADS", "4")
    monkeypatch.setenv("SYNTHWARD_SITE_HOME", "/elsewhere")  # the command line's own, and no setting
    assert home.settings().threads == 4


def test_the_environment_does_not_touch_the_hospitals_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_policy(tmp_path / "policy.toml", Policy(min_patients=20))
    for prefix in ("SYNTHWARD_SITE_", "SYNTHWARD_POLICY_", ""):
        monkeypatch.setenv(f"{prefix}MIN_PATIENTS", "1")
    assert read_policy(tmp_path / "policy.toml").min_patients == 20


@pytest.mark.parametrize("line", ["thread = 1", "node_port = 70000", 'threads = "many"', "threads = "])
def test_a_mistake_in_settings_is_refused_and_named(tmp_path: Path, line: str) -> None:
    home = Home(tmp_path / "site")
    home.create(Settings())
    home.settings_file.write_text(line + "\n")
    with pytest.raises(SynthwardError) as caught:
        home.settings()
    assert caught.value.code == "settings.invalid"
    assert "settings.toml" in caught.value.what


def test_a_folder_that_is_set_up_is_never_overwritten(tmp_path: Path) -> None:
    home = Home(tmp_path / "site")
    home.create(Settings(threads=2))
    with pytest.raises(SynthwardError) as caught:
        home.create(Settings(threads=5))
    assert caught.value.code == "settings.exists"
    assert home.settings().threads == 2
