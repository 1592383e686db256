"""Keys of machine.yaml for names, networks and trust."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.errors import SpecError
from hostvm.spec import default_spec, load_spec, parse_settings, render_spec


def parsed(**values: object):
    return parse_settings(values, default_spec(), "machine.yaml")


def test_defaults():
    spec = default_spec()
    assert (spec.proxy, spec.ca, spec.ssh_agent, spec.names) == ("host", "host", True, 7080)
    assert spec.network == {"subnet": "auto"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ca", "none", "none"),
        ("ca", "/etc/ssl/corp.pem", "/etc/ssl/corp.pem"),
        ("ca", "~/corp.pem", str(Path("~/corp.pem").expanduser())),
        ("names", "off", 0),
        ("names", False, 0),
        ("names", 80, 80),
        ("names", "8080", 8080),
        ("network", {}, {"subnet": "auto"}),
        ("network", {"subnet": "192.168.200.0/24"}, {"subnet": "192.168.200.0/24"}),
        ("registries", {"mirrors": ["https://m.example"]}, {"mirrors": ["https://m.example"]}),
        ("registries", {"ca": {"r:5000": "/ca.pem"}}, {"ca": {"r:5000": "/ca.pem"}}),
        ("registries", {"default": "http://localhost:5000"}, {"default": "http://localhost:5000"}),
        ("registries", {"insecure": ["r:5000", "10.0.0.0/8"]}, {"insecure": ["r:5000", "10.0.0.0/8"]}),
        ("daemon", {"debug": True}, {"debug": True}),
    ],
)
def test_values(key, value, expected):
    assert getattr(parsed(**{key: value}), key) == expected


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("ca", "corp.pem", "absolute"),
        ("ca", 3, "text"),
        ("proxy", "http://x", "one of: host, none"),
        ("names", 0, "1 to 65535"),
        ("names", True, "1 to 65535"),
        ("names", "70000", "1 to 65535"),
        ("network", "10.0.2.0/24", "mapping"),
        ("network", {"subnets": "10.0.2.0/24"}, "network.subnets: unknown key"),
        ("network", {"subnet": "10.0.2.1/24"}, "host bits"),
        ("network", {"subnet": "10.0.0.0/16"}, "/24 to /27"),
        ("network", {"subnet": "8.8.8.0/24"}, "private"),
        ("registries", {"mirrors": "https://m.example"}, "list"),
        ("registries", {"mirrors": ["https://a", "m.example"]}, "registries.mirrors[1]: m.example is no http(s) URL"),
        ("registries", {"insecure": ["http://r"]}, "HOST:PORT"),
        ("registries", {"ca": {"r/x": "/ca.pem", "r": "ca.pem"}}, "registries.ca.'r/x': r/x should be HOST"),
        ("registries", {"ca": {"r": "ca.pem"}}, "registries.ca.r: ca.pem must be the absolute path"),
        ("registries", {"ca": ["/ca.pem"]}, "must be a mapping of HOST[:PORT] to paths of PEM files"),
        ("registries", {"default": "localhost:5000"}, "registries.default: localhost:5000 is no http(s) URL"),
        ("daemon", ["debug"], "mapping"),
    ],
)
def test_wrong_values_say_what_is_wrong(key, value, says):
    with pytest.raises(SpecError) as caught:
        parsed(**{key: value})
    assert key in caught.value.details
    assert says in caught.value.details


def test_what_is_written_is_read_back(tmp_path):
    spec = replace(
        default_spec(),
        names=0,
        ca="/x.pem",
        network={"subnet": "192.168.200.0/24"},
        registries={"insecure": ["r:5000"]},
        daemon={"log-opts": {"max-file": "9"}},
    )
    (tmp_path / "machine.yaml").write_text(render_spec(spec))
    assert load_spec(tmp_path / "machine.yaml") == spec
