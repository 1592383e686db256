"""dockerd's configuration file for one boot: the image's settings, this computer's, then the user's."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hostvm.errors import SpecError
from hostvm.net.clash import engine_pools

if TYPE_CHECKING:
    from hostvm.net.plan import NetworkPlan
    from hostvm.spec import MachineSpec

_RESERVED = {
    "hosts": "its socket is forwarded by hostvm",
    "containerd": "the guest runs its own",
    "data-root": "data lies on the machine's disk",
    "exec-root": "the guest's /run is used",
    "pidfile": "the guest supervises dockerd",
    "tls": "the way to it is ssh",
    "tlsverify": "the way to it is ssh",
    "proxies": "proxies come from this computer's environment; see proxy: in machine.yaml",
}
_REGISTRIES = {"mirrors": "registry-mirrors", "insecure": "insecure-registries"}


def image_settings() -> dict[str, Any]:
    """What the guest image gives dockerd."""
    text = files("images").joinpath("files/guest/etc/docker/daemon.json").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)
    return settings


def daemon_settings(base: dict[str, Any], spec: MachineSpec, plan: NetworkPlan) -> dict[str, Any]:
    """`base` with what this computer and machine.yaml want. Mappings (log-opts) are merged, other values replaced.

    :raises SpecError: settings that hostvm needs otherwise, or that machine.yaml gives twice.
    """
    faults = [f"daemon.{key}: cannot be set: {why}" for key, why in _RESERVED.items() if key in spec.daemon]
    faults += [
        f"daemon.{key}: machine.yaml has registries.{short} too; keep one of them"
        for short, key in _REGISTRIES.items()
        if key in spec.daemon and spec.registries.get(short)
    ]
    if faults:
        raise SpecError(
            f"{len(faults)} wrong setting{'s' if len(faults) > 1 else ''} for the engine",
            "\n".join(faults),
            "correct daemon: and registries: in the machine's machine.yaml   # its folder: hostvm inspect",
        )
    ours: dict[str, Any] = {"host-gateway-ip": plan.network.gateway}
    if "default-address-pools" not in spec.daemon and (pools := engine_pools(plan.taken)):
        ours["default-address-pools"] = pools
    ours |= {key: list(spec.registries[short]) for short, key in _REGISTRIES.items() if spec.registries.get(short)}
    settings = {**base, **ours}
    for key, value in spec.daemon.items():
        there = settings.get(key)
        settings[key] = {**there, **value} if isinstance(there, dict) and isinstance(value, dict) else value
    return settings
