"""`registries:` of machine.yaml as files of /etc/containerd/certs.d, which containerd's clients read.

Format: docs/hosts.md of containerd 1.7. A `[host]` table has to be there, or it takes the whole file for damaged.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hostvm.errors import SpecError
from runtime.registry.files import OWN_CA

if TYPE_CHECKING:
    from collections.abc import Mapping

_DOCKER_HUB = "docker.io"
_ASKED = {"capabilities": ["pull", "resolve"]}
NO_HOSTS = "[host]\n"
"""A file that says nothing."""


def hosts_files(registries: Mapping[str, Any]) -> dict[str, str]:
    """A registry's HOST[:PORT] -> its hosts.toml.

    :raises SpecError: a setting that the format cannot hold.
    """
    insecure, authorities = registries.get("insecure", ()), registries.get("ca", {})
    if wrong := [one for one in insecure if "/" in one or one.startswith(".")]:
        raise SpecError(
            f"registries.insecure: {', '.join(wrong)}: containerd takes hosts, not networks",
            None,
            "name the registries in the machine's machine.yaml   # its folder: hostvm inspect",
        )

    def trust(host: str) -> dict[str, Any]:
        skip = {"skip_verify": True} if host in insecure else {}
        return skip | ({"ca": f"/etc/docker/certs.d/{host}/ca.crt"} if host in authorities else {})

    def place(url: str) -> tuple[str, dict[str, Any]]:
        """A registry's address with what is known of it; a path is put where the API has names of images."""
        there = urlsplit(url)
        path = there.path.rstrip("/")
        known = {**_ASKED, **({"override_path": True} if path else {}), **trust(there.netloc)}
        return f"{there.scheme}://{there.netloc}" + (f"/v2{path}" if path else ""), known

    found = {host: _text(trust(host), {}) for host in authorities}
    # Pushes go to the registry itself, by TLS: containerd sends them to one address alone.
    found |= {host: _text(trust(host), {f"http://{host}": _ASKED}) for host in insecure}
    if "default" in registries:
        server, known = place(str(registries["default"]))
        found[_DOCKER_HUB] = _text({"server": server, **known}, {})
    elif mirrors := registries.get("mirrors", ()):
        found[_DOCKER_HUB] = _text(trust(_DOCKER_HUB), dict(map(place, mirrors)))
    return found


def mirrored_hosts(text: str, url: str) -> str:
    """Docker Hub's file with the machine's own mirror before all others, which are asked in the file's order."""
    there = urlsplit(url)
    known = {**_ASKED, **({"ca": f"/etc/docker/certs.d/{there.netloc}/{OWN_CA}"} if there.scheme == "https" else {})}
    own, table, others = text.partition(NO_HOSTS)
    return f"{own}{table}[host.{json.dumps(url)}]\n" + "".join(f"{line}\n" for line in _lines(known)) + others


def _text(own: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML: the keys of the registry itself, then those that are asked before it. Its values are as JSON's here."""
    lines = [*_lines(own), "[host]"]
    for host, keys in hosts.items():
        lines += [f"[host.{json.dumps(host)}]", *_lines(keys)]
    return "\n".join(lines) + "\n"


def _lines(keys: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
