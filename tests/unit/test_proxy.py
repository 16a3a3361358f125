"""Which proxy the site takes: one answer for gRPC and for Flower's node, whatever the variables say."""

from __future__ import annotations

from urllib.request import getproxies_environment, proxy_bypass_environment

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_node.proxy import is_bypassed, outbound, proxy_for, split_address
from site_node.settings import Settings
from tests.helpers import refused

ADDRESS = "studies.example.org:7442"
GATE = "http://gate:3128"
VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "grpc_proxy", "all_proxy", "ALL_PROXY")
EXCEPTIONS = ("no_proxy", "NO_PROXY", "no_grpc_proxy")


@pytest.mark.parametrize("address", ["", "host", "host:", ":80", "host:port", "host:0", "host:65536"])
def test_what_is_no_address_is_told_as_that(address: str) -> None:
    with refused("settings.invalid"):
        split_address(address)


def test_an_address_of_the_sixth_version_keeps_its_colons() -> None:
    assert split_address("[::1]:7442") == ("::1", 7442)


@pytest.mark.parametrize(
    ("names", "bypassed"),
    [
        ("", False),
        ("*", True),
        ("example.org", True),
        (".example.org", True),
        ("localhost, Studies.Example.org", True),
        ("ample.org", False),
        ("studies.example.org.evil", False),
    ],
)
def test_hosts_and_domains_that_need_no_proxy(names: str, bypassed: bool) -> None:
    assert is_bypassed(ADDRESS, names) == bypassed


@pytest.mark.parametrize(
    ("setting", "variables", "proxy"),
    [
        ("", {}, ""),
        ("", {"https_proxy": GATE}, GATE),
        ("", {"HTTPS_PROXY": GATE}, GATE),
        ("", {"https_proxy": "gate:3128"}, GATE),
        ("", {"https_proxy": GATE, "NO_PROXY": "example.org"}, ""),
        ("", {"https_proxy": GATE, "no_proxy": "other.org"}, GATE),
        ("none", {"https_proxy": GATE}, ""),
        (GATE, {"https_proxy": "http://other:1", "no_proxy": "example.org"}, GATE),
        (GATE, {}, GATE),
    ],
)
def test_settings_come_before_variables(setting: str, variables: dict[str, str], proxy: str) -> None:
    assert proxy_for(ADDRESS, outbound(setting, variables)) == proxy


URLS = st.sampled_from(["", GATE, "http://other:1", "other:2"])
LISTS = st.sampled_from(["", "example.org", "other.org, localhost", "127.0.0.1"])


@given(
    st.sampled_from(["", "none", GATE]),
    st.dictionaries(st.sampled_from(VARIABLES), URLS),
    st.dictionaries(st.sampled_from(EXCEPTIONS), LISTS),
)
def test_whatever_the_variables_say_every_library_finds_the_same(
    setting: str, variables: dict[str, str], exceptions: dict[str, str]
) -> None:
    environment = outbound(setting, {"HOME": "/root", **variables, **exceptions})
    proxy = proxy_for(ADDRESS, environment)
    with pytest.MonkeyPatch.context() as patch:
        for name in (*VARIABLES, *EXCEPTIONS):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        found = getproxies_environment()  # what httpx starts from
        of_httpx = "" if proxy_bypass_environment(split_address(ADDRESS)[0], found) else found.get("https", "")
        assert proxy_bypass_environment("127.0.0.1", found), "the site's own processes meet there"
    assert of_httpx == proxy
    # gRPC reads these, in small letters, in this order (doc/environment_variables.md of its repository).
    first = next((environment[n] for n in ("grpc_proxy", "https_proxy", "http_proxy") if environment.get(n)), "")
    assert ("" if is_bypassed(ADDRESS, environment["no_proxy"]) else first) == proxy
    assert environment["HOME"] == "/root"


@pytest.mark.parametrize("proxy", ["", "none", GATE, "http://me:a%20word@gate:3128"])
def test_a_proxy_that_can_be_named(proxy: str) -> None:
    assert Settings(proxy=proxy).proxy == proxy


@pytest.mark.parametrize(
    "proxy", ["gate:3128", "https://gate:3128", "http://gate", "http://gate:3128/x", "NONE", "socks5://g:1"]
)
def test_a_proxy_that_cannot(proxy: str) -> None:
    with pytest.raises(ValueError, match="proxy"):
        Settings(proxy=proxy)
