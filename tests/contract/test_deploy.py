"""deploy/: what is written there starts what `run` starts, keeps the halves apart, and passes the tools' own checks."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.flower_environment import flower_environment
from site_node.policy import Policy, write_policy
from site_node.running import Part, become, site_children
from site_node.settings import Home, Membership, Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
QUADLETS = sorted((DEPLOY / "containers" / "quadlet").glob("*.container"))
SITE, FLEET = Path("/srv/synthward-site"), "studies.example.org:7443"
LINK_UID, TRAINER_UID, EXCHANGE_GID = 62001, 62002, 62000
# systemd's own figure, 0 to 10, less is better. The review page and the link speak to the network.
EXPOSURE = {"synthward-site-trainer": 0.7, "synthward-site-review": 1.4, "synthward-coordinator": 1.4}
EXPOSURE_OF_OTHERS = 1.5

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skips where a tool is not installed."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} not installed")


def lines(text: str, key: str) -> list[str]:
    """The values of a key in a unit, continued lines joined."""
    return re.findall(rf"^{key}=(.*)$", text.replace("\\\n", " "), re.M)


def words(text: str, key: str) -> list[str]:
    """The words of all values of a key."""
    return [word for line in lines(text, key) for word in line.split()]


def unit(name: str) -> str:
    """The text of a unit or container."""
    (path,) = [path for path in (*UNITS, *QUADLETS) if path.name == name]
    return path.read_text(encoding="utf-8")


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml."""
    text = (DEPLOY / "containers" / "compose.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return found


# What is started


PARTS = [part.value for part in Part]


@pytest.fixture
def site(tmp_path: Path) -> Home:
    """A site's folder that has enrolled."""
    home = Home(tmp_path / "site")
    home.create(Settings())
    home.join(Membership(site="north", releases_address="h:7442", fleet_address=FLEET, coordinator_key="0" * 64))
    write_policy(home.policy_file, Policy(stewards=("ada",)))
    return home


@pytest.mark.parametrize("name", PARTS)
def test_a_unit_and_a_container_become_that_process(name: str) -> None:
    (command,) = lines(unit(f"synthward-site-{name}.service"), "ExecStart")
    assert shlex.split(command) == ["/opt/synthward/bin/synthward-site", "run", "--only", name, "--home", str(SITE)]
    in_container = ["site_node.cli", "run", "--only", name]  # "python -m" and the home are the image's
    text, service = unit(f"synthward-site-{name}.container"), services()[f"site-{name}"]
    assert shlex.split(lines(text, "Exec")[0]) == service["command"] == in_container
    assert not lines(text, "Entrypoint")
    assert "entrypoint" not in service


@pytest.mark.parametrize("part", Part)
def test_becoming_a_process_is_starting_what_run_starts(
    site: Home, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *words: became.append(words))
    become(site, part)

    (child,) = [child for child in site_children(site) if child.name == part]
    assert became == [(child.command[0], list(child.command), dict(child.environment or os.environ))]


def test_flower_is_kept_quiet(site: Home) -> None:
    quiet = {k: v for k, v in flower_environment(site.flower).items() if k.startswith(("FLWR_", "MALLOC"))}
    for child in site_children(site):
        if child.name != Part.TRAINER:
            assert quiet.items() <= (child.environment or {}).items()
    image = (DEPLOY / "containers" / "Containerfile").read_text(encoding="utf-8")
    assert [f"{k}={v}" for k, v in quiet.items() if k != "FLWR_HOME" and f"{k}={v}" not in image] == []


def test_the_reader_of_burned_in_text_is_kept_quiet() -> None:
    for name in ("trainer", "review"):
        assert "ORT_DISABLE_TELEMETRY=1" in words(unit(f"synthward-site-{name}.service"), "Environment")
    assert "ORT_DISABLE_TELEMETRY=1" in (DEPLOY / "containers" / "Containerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["node", "link"])
def test_what_the_coordinators_side_sends_is_bounded_in_memory(name: str) -> None:
    """Flower has no limit of its own; ours is asked when a message is here."""
    for end in ("service", "container"):
        assert lines(unit(f"synthward-site-{name}.{end}"), "MemoryMax") == ["4G"]
    assert services()[f"site-{name}"]["mem_limit"] == "4g"


def test_a_node_starts_afresh_with_its_link(site: Home) -> None:
    for end in ("service", "container"):
        assert "synthward-site-link.service" in lines(unit(f"synthward-site-{Part.NODE}.{end}"), "PartOf")
    (node,) = [child for child in site_children(site) if child.name == Part.NODE]
    assert node.follows == Part.LINK


# The wall between the halves


def mounts(volumes: list[str]) -> dict[str, str]:
    """container path -> mode, of volumes as they are written."""
    found = {}
    for volume in volumes:
        path, _, mode = volume[volume.rindex(":/") + 1 :].partition(":")
        found[path] = mode or "rw"
    return found


@pytest.mark.parametrize("form", ["compose", "quadlet"])
def test_no_container_has_both_the_network_and_private_data(form: str) -> None:
    seen = {}
    for name in ("node", "link", "trainer"):
        if form == "compose":
            service = services()[f"site-{name}"]
            network = service.get("network_mode") or str(service["networks"])
            volumes, user = service["volumes"], service["user"]
        else:
            text = unit(f"synthward-site-{name}.container")
            (network,), volumes = lines(text, "Network"), lines(text, "Volume")
            user = f"{lines(text, 'User')[0]}:{lines(text, 'Group')[0]}"
        seen[name] = set(mounts(volumes))
        assert (network == "none") == (name == "trainer")
        assert user == f"{TRAINER_UID if name == 'trainer' else LINK_UID}:{EXCHANGE_GID}"
    secret = {str(SITE / "private"), str(SITE / "keys" / "seal")}
    assert secret <= seen["trainer"]
    assert not {str(SITE), str(SITE / "keys"), *secret} & (seen["node"] | seen["link"])
    assert {path for path in seen["trainer"] & seen["link"] if not path.endswith(".toml")} == {str(SITE / "exchange")}


def test_a_unit_hides_the_other_half_and_the_trainer_has_no_network() -> None:
    hidden = {path.stem: set(words(path.read_text(encoding="utf-8"), "InaccessiblePaths")) for path in UNITS}
    for name in ("synthward-site-node", "synthward-site-link"):
        assert {str(SITE / "private"), str(SITE / "keys" / "seal")} <= hidden[name]
    assert str(SITE / "keys" / "link") in hidden["synthward-site-trainer"]
    assert str(SITE / "keys") in hidden["synthward-site-review"]
    assert lines(unit("synthward-site-trainer.service"), "PrivateNetwork") == ["yes"]
    assert lines(unit("synthward-site-review.service"), "IPAddressAllow") == ["localhost"]


@pytest.fixture
def shared_home() -> Iterator[Path]:
    """A site's folder after share-home.sh, where any user can reach it (pytest's own folders are their owner's)."""
    base = Path("/tmp") / f"synthward-deploy-{os.getpid()}"
    home = Home(base / "site")
    home.create(Settings())
    home.join(Membership(site="n", releases_address="h:1", fleet_address="h:2", coordinator_key="0" * 64))
    base.chmod(0o755)
    home.policy_file.write_text("", encoding="utf-8")
    for place in (home.private, home.seal_keys, home.link_keys):
        (place / "secret").write_bytes(b"x")
    script = DEPLOY / "systemd" / "share-home.sh"
    for _ in range(2):  # it may be run again
        subprocess.run(["sh", script, home.path, str(LINK_UID), str(TRAINER_UID), str(EXCHANGE_GID)], check=True)
    yield home.path
    shutil.rmtree(base)


ACTS = """
import json, os, sys, tempfile
from pathlib import Path
from site_node.jobs import Queue
from site_node.settings import Home
home, user, group = Home(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
with tempfile.TemporaryDirectory() as folder:  # all that is imported late: this Python may lie in root's own home
    Queue(Path(folder)).record("somebody", "wrote", "something")
home.settings()
os.setgroups([]); os.setgid(group); os.setuid(user); os.umask(0o027)
def can(act):
    try:
        act()
    except OSError:
        return False
    return True
found = {name: can(lambda: (place / "secret").read_bytes()) for name, place in
         (("private", home.private), ("seal", home.seal_keys), ("link", home.link_keys))}
found["settings"] = can(lambda: home.settings_file.read_bytes())
found["policy-write"] = can(lambda: home.policy_file.write_text("x"))
found["inbox-write"] = can(lambda: (home.inbox / str(user)).write_text("x"))
found["outbox-write"] = can(lambda: (home.outbox / str(user)).write_text("x"))
found["outbox-read"] = can(lambda: list(home.outbox.iterdir()))
queue = Queue(home.exchange)
queue.record("somebody", "wrote", str(user))
found["queue"] = sorted(entry.subject for entry in queue.journal())
print(json.dumps(found), flush=True)
if len(sys.argv) > 4:
    os._exit(0)  # as a kill would: the write-ahead files stay
"""


def act_as(home: Path, user: int, *how: str) -> dict[str, Any]:
    """What this user can do in the folder."""
    argv = [sys.executable, "-c", ACTS, str(home), str(user), str(EXCHANGE_GID), *how]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@as_root
def test_each_half_opens_its_own_keys_and_data_alone_and_both_the_queue(shared_home: Path) -> None:
    trainer = act_as(shared_home, TRAINER_UID, "killed")
    assert trainer == {
        "private": True, "seal": True, "link": False, "settings": True, "policy-write": False,
        "inbox-write": False, "outbox-write": True, "outbox-read": True, "queue": [str(TRAINER_UID)],
    }  # fmt: skip
    link = act_as(shared_home, LINK_UID)  # goes on with what a killed trainer left of the database
    assert link == {
        "private": False, "seal": False, "link": True, "settings": True, "policy-write": False,
        "inbox-write": True, "outbox-write": False, "outbox-read": True, "queue": [str(LINK_UID), str(TRAINER_UID)],
    }  # fmt: skip


@as_root
def test_a_folder_that_is_no_sites_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    done = subprocess.run(["sh", DEPLOY / "systemd" / "share-home.sh", tmp_path, "1", "1", "1"], check=False)
    assert done.returncode == 2
    assert (tmp_path / "file").stat().st_uid == 0


# systemd's own checks


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with programs that exist here."""
    for path in (DEPLOY / "systemd").glob("synthward-*.[st]*"):
        text = path.read_text(encoding="utf-8").replace("/opt/synthward/bin", str(Path(sys.executable).parent))
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    return tmp_path


def verified(folder: Path) -> str:
    """What systemd-analyze verify complains of."""
    argv = ["systemd-analyze", "verify", "--man=no", *sorted(map(str, folder.iterdir()))]
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    return done.stderr if done.returncode or str(folder) in done.stderr else ""


@needs("systemd-analyze")
def test_systemd_takes_every_line_of_the_units(units: Path) -> None:
    assert verified(units) == ""


@needs("systemd-analyze")
def test_a_line_that_systemd_does_not_know_is_noticed(units: Path) -> None:
    path = units / "synthward-site-link.service"
    path.write_text(path.read_text(encoding="utf-8").replace("ProtectHome=yes", "ProtectHomes=yes"), encoding="utf-8")
    assert "ProtectHomes" in verified(units)


@needs("systemd-analyze")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_the_units_are_no_more_exposed_than_the_runbook_says(path: Path) -> None:
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= EXPOSURE.get(path.stem, EXPOSURE_OF_OTHERS)


@as_root
@needs("systemd-sysusers")
def test_the_users_cannot_log_in_and_share_one_group(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", DEPLOY / "systemd" / "synthward.sysusers.conf"], check=True
    )
    users = [line.split(":") for line in (tmp_path / "etc" / "passwd").read_text(encoding="utf-8").splitlines()]
    groups = [line.split(":") for line in (tmp_path / "etc" / "group").read_text(encoding="utf-8").splitlines()]
    assert {user[0] for user in users if "nologin" in user[6]} == {
        "synthward-link", "synthward-trainer", "synthward-coordinator",
    }  # fmt: skip
    (members,) = [set(group[3].split(",")) for group in groups if group[0] == "synthward-exchange"]
    assert members == {"synthward-link", "synthward-trainer"}
    assert {word for path in UNITS for word in words(path.read_text(encoding="utf-8"), "User")} <= {u[0] for u in users}


# The firewall and the versions

REACHES = """
import os, socket, sys
places = [("127.0.0.2", 7442), ("127.0.0.2", 9999), ("127.0.0.3", 7442), ("127.0.0.1", 7451), ("127.0.0.1", 7452)]
servers = []
for place in places:
    server = socket.socket()
    server.bind(place)
    server.listen()
    servers.append(server)
if os.fork() == 0:
    os.setuid(int(sys.argv[1]))
    reached = []
    for place in places:
        caller = socket.socket()
        caller.settimeout(1)
        if caller.connect_ex(place) == 0:
            reached.append("%s:%d" % place)
    os.write(1, repr(reached).encode())
    os._exit(0)
os.wait()
"""


@as_root
@needs("nft", "unshare", "ip")
@pytest.mark.parametrize(
    ("user", "reached"),
    [
        (LINK_UID, ["127.0.0.2:7442", "127.0.0.1:7451"]),
        (TRAINER_UID, []),
        (1, ["127.0.0.2:7442", "127.0.0.2:9999", "127.0.0.3:7442", "127.0.0.1:7451", "127.0.0.1:7452"]),
    ],
)
def test_under_the_firewall_the_link_reaches_the_coordinator_alone_and_the_trainer_nobody(
    tmp_path: Path, user: int, reached: list[str]
) -> None:
    if subprocess.run(["unshare", "-n", "nft", "list", "ruleset"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel has no nftables")
    rules = (DEPLOY / "firewall" / "site.nft").read_text(encoding="utf-8")
    rules = rules.replace('"synthward-link"', str(LINK_UID)).replace('"synthward-trainer"', str(TRAINER_UID))
    (tmp_path / "site.nft").write_text(rules.replace("{ 192.0.2.1 }", "{ 127.0.0.2 }"), encoding="utf-8")
    (tmp_path / "reaches.py").write_text(REACHES, encoding="utf-8")
    script = f"ip link set lo up && nft -f {tmp_path}/site.nft && {sys.executable} -I {tmp_path}/reaches.py {user}"
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == reached


@as_root
@needs("nft", "unshare")
def test_the_coordinators_rules_are_ones_that_nftables_takes() -> None:
    done = subprocess.run(
        ["unshare", "-n", "nft", "-c", "-f", DEPLOY / "firewall" / "coordinator.nft"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_dependency_has_one_exact_version() -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    stated = [line for line in pinned if line and not line.startswith("#")]
    assert [line for line in stated if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+!]+", line)] == []
    assert len(stated) > 50


def test_the_wheelhouse_packs_every_package_of_ours() -> None:
    script = (DEPLOY / "wheelhouse.sh").read_text(encoding="utf-8")
    (copied,) = re.findall(r"cp -R (.*) \"\$work/ours\"", script)
    assert {"pyproject.toml", "README.md", "LICENSE", "shared", "site_node", "coordinator"} == set(copied.split())
    subprocess.run(["sh", "-n", DEPLOY / "wheelhouse.sh"], check=True)
