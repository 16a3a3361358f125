"""The doctor: what must be right before a site runs, each with what to do when it is not."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil

import shared
from shared.errors import SynthwardError
from shared.identity import certificate_end
from shared.ports import check_free
from shared.study import ImageSpec
from site_node.policy import read_policy
from site_node.settings import Home
from site_node.style.features import load_features
from site_node.style.public import read_public
from site_node.work.machine import pick_device

_DISK_GB = 5.0
_MEMORY_GB = 2.0
_CERTIFICATE_DAYS = 14
_CONNECT_S = 5.0


@dataclass(frozen=True)
class Check:
    """One check: fine, wrong, or a remark."""

    name: str
    state: Literal["fine", "wrong", "remark"]
    text: str


def examine(home: Home) -> list[Check]:
    """All checks, whatever the earlier ones found."""
    return [
        _check(name, test, home)
        for name, test in (
            ("installation", _installation),
            ("settings and membership", _membership),
            ("policy", _policy),
            ("stewards' accounts", _accounts),
            ("certificate", _certificate),
            ("data", _data),
            ("disk", _disk),
            ("memory", _memory),
            ("training", _training),
            ("style", _style),
            ("port of the node", _port),
            ("release service", lambda h: _reach(h.releases_address())),
            ("fleet interface", lambda h: _reach(h.fleet_address())),
        )
    ]


def _check(name: str, test: Callable[[Home], str], home: Home) -> Check:
    try:
        text = test(home)
    except SynthwardError as error:
        return Check(name, "wrong", str(error))
    return Check(name, "remark" if text.startswith("!") else "fine", text.lstrip("!"))


def _installation(_home: Home) -> str:
    # `shared` is a common name: another package of that name on the path would be a quiet disaster.
    ours = Path(__file__).resolve().parent.parent / "shared"
    found = Path(shared.__file__).resolve().parent
    if found != ours:
        raise SynthwardError("settings.invalid", f"`shared` is {found}, not ours", do="use a virtual environment")
    return f"version {shared.__version__}"


def _membership(home: Home) -> str:
    home.settings()
    return f"enrolled as {home.membership().site}"


def _policy(home: Home) -> str:
    policy = read_policy(home.policy_file)
    if not policy.stewards:
        raise SynthwardError("policy.steward", "no steward is named", do=f"name one in {home.policy_file}")
    return f"stewards: {', '.join(policy.stewards)}; floor {policy.min_patients} patients"


def _accounts(home: Home) -> str:
    from site_node.airlock.accounts import Accounts
    from site_node.cases import PrivateStore

    if home.settings().review_user_header:
        return "the hospital's proxy signs stewards in; the command line needs accounts"
    known = {account.name for account in Accounts(PrivateStore(home.private)).all()}
    missing = [name for name in read_policy(home.policy_file).stewards if name not in known]
    if missing:
        return f"!no account yet: {', '.join(missing)}. synthward-site steward add {missing[0]}"
    return "every steward has an account"


def _certificate(home: Home) -> str:
    path = home.link_keys / "tls.crt"
    if not path.exists():
        raise SynthwardError("settings.missing", "there is no certificate", do="enrol with an invitation: init")
    left = certificate_end(path.read_bytes()) - datetime.now(UTC)
    if left.days < 0:
        raise SynthwardError("trust.certificate", "the certificate has ended", do="ask for a new invitation")
    return f"{'!' if left.days < _CERTIFICATE_DAYS else ''}{left.days} days left"


def _data(home: Home) -> str:
    from site_node.cases import PrivateStore

    try:
        return f"{len(PrivateStore(home.private).cases())} cases imported"
    except SynthwardError as error:
        if error.code != "cohort.not-imported":
            raise
        return "!no cases yet: synthward-site import"


def _disk(home: Home) -> str:
    free = shutil.disk_usage(home.path).free / 1e9
    return f"{'!' if free < _DISK_GB else ''}{free:.1f} GB free"


def _memory(_home: Home) -> str:
    free = psutil.virtual_memory().available / 1e9
    return f"{'!' if free < _MEMORY_GB else ''}{free:.1f} GB available"


def _training(home: Home) -> str:
    settings = home.settings()
    if settings.ray_address:
        return f"on the Ray cluster at {settings.ray_address}"
    return f"on {pick_device(settings.device)}"


def _style(home: Home) -> str:
    settings, found = home.settings(), []
    if settings.style_weights:
        load_features(Path(settings.style_weights))
        found.append("weights for gatys")
    if settings.style_images:
        read_public(Path(settings.style_images), ImageSpec(), seed=0)
        found.append("public images")
    return ", ".join(found) or "no weights for gatys and no public images: studies that need them are refused"


def _port(home: Home) -> str:
    port = home.settings().node_port
    try:
        check_free("127.0.0.1", port)
    except SynthwardError:
        return f"!{port} is in use: well if this site is running, else set node_port in settings.toml"
    return f"{port} is free"


def _reach(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise SynthwardError(
            "unavailable.service",
            f"{address} does not answer ({type(error).__name__})",
            do="check name resolution and the firewall: outbound TCP to this address must be allowed",
        ) from error
    return f"{address} answers"
