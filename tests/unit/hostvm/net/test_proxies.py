"""Proxies of this computer as the guest gets them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.errors import SpecError
from hostvm.net.addresses import GuestNetwork
from hostvm.net.loopback import is_loopback, seen_from_guest, split_host
from hostvm.net.proxies import guest_proxies, merge_client_config

NETWORK = GuestNetwork.of("10.0.2.0/24")
OWN = "localhost,127.0.0.0/8,::1,10.0.2.0/24,host.docker.internal,host.containers.internal,gateway.docker.internal"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"NO_PROXY": "a.example"}, {}),
        ({"HTTP_PROXY": " "}, {}),
        (
            {"HTTP_PROXY": "http://proxy.example:3128"},
            {
                "HTTP_PROXY": "http://proxy.example:3128",
                "http_proxy": "http://proxy.example:3128",
                "NO_PROXY": OWN,
                "no_proxy": OWN,
            },
        ),
        (
            {"http_proxy": "http://localhost:1/", "https_proxy": "socks5h://u:p@[::1]:2", "no_proxy": " b, a ,b"},
            {
                "HTTP_PROXY": "http://10.0.2.2:1/",
                "http_proxy": "http://10.0.2.2:1/",
                "HTTPS_PROXY": "socks5h://u:p@10.0.2.2:2",
                "https_proxy": "socks5h://u:p@10.0.2.2:2",
                "NO_PROXY": f"b,a,{OWN}",
                "no_proxy": f"b,a,{OWN}",
            },
        ),
        (
            {"HTTP_PROXY": "upper:1", "http_proxy": "lower:2", "NO_PROXY": "*"},
            {"HTTP_PROXY": "upper:1", "http_proxy": "lower:2", "NO_PROXY": "*", "no_proxy": "*"},
        ),
    ],
)
def test_variables(environ, expected):
    assert guest_proxies(environ, NETWORK) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:3128", "http://10.0.2.2:3128"),
        ("http://127.8.8.8", "http://10.0.2.2"),
        ("LOCALHOST:3128", "10.0.2.2:3128"),
        ("http://proxy.localhost.:3128/x?y", "http://10.0.2.2:3128/x?y"),
        ("http://us%40er:p%3A!$&'ss@127.0.0.1:8", "http://us%40er:p%3A!$&'ss@10.0.2.2:8"),
        ("http://localhost@proxy.example:8", "http://localhost@proxy.example:8"),
        ("http://localhost.example:8", "http://localhost.example:8"),
        ("http://[::1]:8/", "http://10.0.2.2:8/"),
        ("http://[2001:db8::1]:8/", "http://[2001:db8::1]:8/"),
    ],
)
def test_loopback_is_spelled_for_the_guest(url, expected):
    assert seen_from_guest(url, "10.0.2.2") == expected


@given(st.text())
def test_a_url_taken_apart_is_the_same_url(url):
    assert "".join(split_host(url)) == url


@given(st.text())
def test_after_the_change_nothing_points_at_loopback(url):
    assert not is_loopback(split_host(seen_from_guest(url, "10.0.2.2"))[1])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HTTP_PROXY", "ftp://proxy:1", "ftp://"),
        ("HTTPS_PROXY", "http://", "no host"),
        ("http_proxy", "http://proxy:port", "'port' is no port"),
        ("HTTP_PROXY", "http://proxy:70000", "70000"),
        ("HTTP_PROXY", "http://pro xy:1", "no host"),
        ("HTTP_PROXY", "http://pro\nxy:1", "control character"),
    ],
)
def test_a_bad_url_is_one_error_that_names_the_variable(name, value, says):
    with pytest.raises(SpecError) as caught:
        guest_proxies({name: value}, NETWORK)
    assert name.upper() in caught.value.brief.upper()
    assert says in str(caught.value.details)
    assert caught.value.resolution


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://user:secret@proxy:port", "'http://***@proxy:port'"),
        ("user:secret@proxy:port", "'***@proxy:port'"),
        # Of these the host would be "user", and what follows a port.
        ("http://user:sec/ret@proxy:1", "'http://***@proxy:1'"),
        ("http://user:sec#ret@proxy:1", "'http://***@proxy:1'"),
        ("user:sec?ret@proxy:1", "'***@proxy:1'"),
        ("http://proxy:port/x", "'http://proxy:port/x'"),
    ],
)
def test_an_error_keeps_the_password_to_itself(value, shown):
    with pytest.raises(SpecError) as caught:
        guest_proxies({"HTTP_PROXY": value}, NETWORK)
    assert caught.value.brief.endswith(shown)
    assert "sec" not in f"{caught.value.brief}{caught.value.details}{caught.value.resolution}"


PROXIES = {"HTTP_PROXY": "http://10.0.2.2:1", "NO_PROXY": "localhost"}
OURS = {"httpProxy": "http://10.0.2.2:1", "noProxy": "localhost"}


@pytest.mark.parametrize(
    ("text", "proxies", "expected"),
    [
        ("", {}, None),
        ('{"auths": {"r": {}}}', {}, None),
        ("", PROXIES, {"proxies": {"default": OURS}}),
        (json.dumps({"proxies": {"default": OURS}}), PROXIES, None),
        (json.dumps({"auths": 1, "proxies": {"default": OURS}}), {}, {"auths": 1}),
        (
            json.dumps({"auths": 1, "proxies": {"default": {"httpProxy": "old"}, "unix:///x": {"a": "b"}}}),
            PROXIES,
            {"auths": 1, "proxies": {"unix:///x": {"a": "b"}, "default": OURS}},
        ),
    ],
)
def test_client_configuration(text, proxies, expected):
    merged = merge_client_config(text, proxies)
    assert (merged if merged is None else json.loads(merged)) == expected


@pytest.mark.parametrize("text", ["[]", "{", '{"proxies": []}'])
def test_a_damaged_client_configuration_is_left_alone(text):
    with pytest.raises(ValueError, match=r"Expecting|mapping"):
        merge_client_config(text, PROXIES)
