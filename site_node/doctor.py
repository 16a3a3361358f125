"""The doctor: what must be right before a site runs, each with what to do when it is not.

Each check is one small function of the site's folder; all of them run, whatever the earlier ones found.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import shared
from shared.errors import SynthwardError
from shared.identity import check_issued
from shared.ports import check_free
from shared.study import ImageSpec
from site_node.certificate import identity_file, private_key, read_identity
from site_node.doctor_findings import (
    Found,
    State,
    certificate_found,
    clock_found,
    disk_found,
    memory_found,
    ours_found,
    patients_found,
    proxy_found,
)
from site_node.jobs import Queue
from site_node.policy import read_policy
from site_node.proxy import outbound, proxy_for, split_address
from site_node.reach import (
    Trust,
    check_accepted,
    clock_of,
    resolve,
    tls,
)
from site_node.settings import Home
from site_node.standing import read_standing
from site_node.style.features import load_features
from site_node.style.public import read_public
from site_node.work.machine import free_bytes, pick_device


@dataclass(frozen=True)
class Check:
    """One line: the check's name and what it found."""

    name: str
    state: State
    text: str
    do: str


def examine(home: Home) -> list[Check]:
    """All checks, in the order in which somebody would put things right."""
    return [
        _check(name, test, home)
        for name, test in (
            ("installation", _installation),
            ("settings and membership", _membership),
            ("policy", _policy),
            ("stewards' accounts", _accounts),
            ("data folder", _data_folder),
            ("cases and patients", _patients),
            ("disk", lambda h: disk_found(shutil.disk_usage(h.path).free / 1e9)),
            ("memory", lambda _: memory_found(free_bytes() / 1e9)),
            ("training device", _device),
            ("style", _style),
            ("port of the node", _port),
            ("certificate", _certificate),
            ("standing with the coordinator", _standing),
            ("name resolution", _names),
            ("proxy", _proxy),
            ("release service", _release_service),
            ("fleet interface", _fleet_interface),
            ("clock", _clock),
        )
    ]


def _check(name: str, test: Callable[[Home], Found], home: Home) -> Check:
    try:
        found = test(home)
    except SynthwardError as error:
        text = f"{error.what} [{error.code}]" + (f" ({error.why})" if error.why else "")
        return Check(name, "failed", text, error.do)
    except OSError as error:
        what = f"{error.filename or 'a file'} cannot be read ({type(error).__name__})"
        return Check(name, "failed", what, "run doctor as a user who may read it, or restore it from the backup")
    return Check(name, found.state, found.text, found.do)


def _installation(_home: Home) -> Found:
    return ours_found(Path(shared.__file__).parent, Path(__file__).resolve().parent.parent / "shared")


def _membership(home: Home) -> Found:
    home.settings()
    return Found("ok", f"enrolled as {home.membership().site}")


def _policy(home: Home) -> Found:
    policy = read_policy(home.policy_file)
    if not policy.stewards:
        raise SynthwardError("policy.steward", "no steward is named", do=f"name one in {home.policy_file}")
    return Found("ok", f"stewards: {', '.join(policy.stewards)}; floor {policy.min_patients} patients")


def _accounts(home: Home) -> Found:
    from site_node.airlock.accounts import Accounts
    from site_node.cases import PrivateStore

    if home.settings().review_user_header:
        return Found("ok", "the hospital's proxy signs stewards in; the command line needs accounts")
    known = {account.name for account in Accounts(PrivateStore(home.private)).all()}
    missing = [name for name in read_policy(home.policy_file).stewards if name not in known]
    if missing:
        return Found("warning", f"no account yet: {', '.join(missing)}", f"synthward-site steward add {missing[0]}")
    return Found("ok", "every steward has an account")


def _data_folder(home: Home) -> Found:
    name = home.settings().data
    if not name:
        return Found("ok", "none set: import is told which")
    folder = Path(name)
    lacking = [part for part in ("images", "masks") if not os.access(folder / part, os.R_OK | os.X_OK)]
    if lacking:
        return Found(
            "failed",
            f"{folder} has no {' and no '.join(f'{part}/' for part in lacking)} that can be read",
            "mount it, let the trainer's user read it, or correct `data` in settings.toml",
        )
    return Found("ok", f"{folder} can be read")


def _patients(home: Home) -> Found:
    from site_node.cases import PrivateStore

    policy, store = read_policy(home.policy_file), PrivateStore(home.private)
    try:
        cases = store.cases()
    except SynthwardError as error:
        if error.code != "cohort.not-imported":
            raise
        return Found("warning", "no cases yet", "synthward-site import")
    split = store.split(cases, policy.holdout_fraction)
    floors = (policy.min_patients, policy.min_screening_patients)
    return patients_found(len(cases), len(split.training), len(split.holdout), floors)


def _device(home: Home) -> Found:
    settings = home.settings()
    if settings.ray_address:
        return Found("ok", f"the Ray cluster at {settings.ray_address}; for it the trainer keeps its network")
    device = pick_device(settings.device)
    if device == "cpu":
        return Found("ok", "the processor; no graphics card is used")
    import torch

    found = torch.cuda.get_device_properties(device)
    return Found("ok", f"{device}: {found.name}, {found.total_memory / 1e9:.0f} GB")


def _style(home: Home) -> Found:
    settings, found = home.settings(), []
    if settings.style_weights:
        load_features(Path(settings.style_weights))
        found.append("weights for gatys")
    if settings.style_images:
        read_public(Path(settings.style_images), ImageSpec(), seed=0)
        found.append("public images")
    return Found("ok", ", ".join(found) or "no weights for gatys, no public images: studies that need them are refused")


def _port(home: Home) -> Found:
    port = home.settings().node_port
    try:
        check_free("127.0.0.1", port)
    except SynthwardError:
        return Found("warning", f"{port} is in use", "well if this site runs; else set node_port in settings.toml")
    return Found("ok", f"{port} is free")


def _certificate(home: Home) -> Found:
    identity = read_identity(home)
    key = private_key(identity.key).public_key()
    authority = (home.link_keys / "ca.crt").read_bytes()
    check_issued(identity.certificate, authority, key, ("site", home.membership().site))
    return certificate_found(identity.validity, datetime.now(UTC))


def _standing(home: Home) -> Found:
    standing = read_standing(Queue(home.exchange)).plain()
    if standing["code"]:
        text = f"{standing['meaning']} [{standing['code']}], since {standing['since'][:16]} UTC"
        return Found("failed", text, standing["do"])
    return Found("ok", "nothing against this site" if standing["since"] else "not connected yet")


def _names(home: Home) -> Found:
    found = []
    for address in (home.releases_address(), home.fleet_address()):
        host = split_address(address)[0]
        by_proxy = _proxy_for(home, address)
        found.append(f"{host}: by the proxy" if by_proxy else f"{host}: {', '.join(resolve(host))}")
    return Found("ok", "; ".join(dict.fromkeys(found)))


def _proxy(home: Home) -> Found:
    return proxy_found([_proxy_for(home, address) for address in (home.releases_address(), home.fleet_address())])


def _release_service(home: Home) -> Found:
    address = home.releases_address()
    trust = Trust(home.link_keys / "ca.crt", identity_file(home))
    accepted = check_accepted(address, _proxy_for(home, address), trust)
    return Found("ok", f"{address} answers, {accepted}, certificates hold")


def _fleet_interface(home: Home) -> Found:
    address = home.fleet_address()
    trust = Trust(home.link_keys / "ca.crt", None)
    with tls(address, _proxy_for(home, address), trust, protocol="http/1.1") as secured:
        return Found("ok", f"{address} answers, {secured.version()}, its certificate holds")


def _clock(home: Home) -> Found:
    address = home.fleet_address()
    return clock_found(*clock_of(address, _proxy_for(home, address), Trust(home.link_keys / "ca.crt", None)))


def _proxy_for(home: Home, address: str) -> str:
    return proxy_for(address, outbound(home.settings().proxy, os.environ))
