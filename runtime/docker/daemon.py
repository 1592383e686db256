"""dockerd's configuration file for one boot: the image's settings, this computer's, then the user's."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hostvm.engines import own_image
from hostvm.errors import SpecError
from hostvm.net.clash import engine_pools

if TYPE_CHECKING:
    from collections.abc import Mapping

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
_SNAPSHOTTER = "overlayfs"
"""What drives containerd's image store; the guest's containerd has no other."""

_LIMITED = ("json-file", "local")
"""Log drivers that know the image's log-opts; others refuse every container because of them."""

_LOG_DRIVERS = (*_LIMITED, "awslogs", "fluentd", "gcplogs", "gelf", "journald", "none", "splunk", "syslog")
"""The engine's own: `docker info -f '{{.Plugins.Log}}'` of 26.1, and `none`."""

_QUIET = ("panic", "fatal", "error", "warn", "warning")
"""Log levels without dockerd's words at info: that it listens, has read its settings anew, and has ended."""


def image_settings(*, rootless: bool = False) -> dict[str, Any]:
    """What the guest image gives dockerd."""
    folder = own_image("docker", rootless=rootless)
    text = files("images").joinpath(f"files/{folder}/etc/docker/daemon.json").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)
    return settings


def check_daemon(spec: MachineSpec) -> None:
    """Refuse what the engine could not start with, or not as hostvm needs it.

    :raises SpecError: settings that hostvm needs otherwise, that contradict each other, or that stand twice.
    """
    wanted = spec.daemon
    faults = [f"daemon.{key}: cannot be set: {why}" for key, why in _RESERVED.items() if key in wanted]
    faults += [
        f"daemon.{key}: machine.yaml has registries.{short} too; keep one of them"
        for short, key in _REGISTRIES.items()
        if key in wanted and spec.registries.get(short)
    ]
    if "registry-mirrors" in wanted and spec.registries.get("default"):
        faults.append("daemon.registry-mirrors: machine.yaml has registries.default too; keep one of them")
    driver = wanted.get("storage-driver")
    if _uses_snapshotter(wanted) and driver not in (None, _SNAPSHOTTER):
        faults.append(
            f"daemon.storage-driver: {driver} is no driver of containerd's image store, which "
            "daemon.features.containerd-snapshotter asks for; leave it out"
        )
    if (level := str(wanted.get("log-level"))).lower() in _QUIET:
        faults.append(
            f"daemon.log-level: {level} leaves out what hostvm waits for, which dockerd tells at info; "
            "take info or debug, or leave it out"
        )
    if spec.rootless and wanted.get("live-restore"):
        faults.append("daemon.live-restore: containers of a rootless engine end with its namespaces; leave it out")
    if "native.cgroupdriver=systemd" in _listed(wanted.get("exec-opts")):
        faults.append("daemon.exec-opts: native.cgroupdriver=systemd: the guest has no systemd")
    if faults:
        raise SpecError(
            f"{len(faults)} wrong setting{'s' if len(faults) > 1 else ''} for the engine",
            "\n".join(faults),
            "correct daemon: and registries: in the machine's machine.yaml   # its folder: hostvm inspect",
        )


def replaced_settings(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Where `wanted` says something else than the image, one line each; what does not fit beside it is told, too."""
    lines = []
    fitting = _fitting(base, wanted)
    for key, value in base.items():
        own = wanted.get(key)
        if key not in fitting:
            lines.append(f"daemon.{key}: hostvm's {_shown(value)} does not fit the others and is left out")
        elif isinstance(value, dict) and isinstance(own, dict):
            lines += [
                f"daemon.{key}.{inner}: {_shown(own[inner])} instead of hostvm's {_shown(value[inner])}"
                for inner in value
                if inner in own and own[inner] != value[inner]
            ]
        elif (new := wanted.get(key, fitting[key])) != value:
            lines.append(f"daemon.{key}: {_shown(new)} instead of hostvm's {_shown(value)}")
    if (driver := wanted.get("log-driver", _LIMITED[0])) not in _LOG_DRIVERS:
        # dockerd starts with it all the same, and then refuses each container.
        lines.append(
            f"daemon.log-driver: {_shown(driver)} is none of the engine's own: without its plugin no container starts"
        )
    return lines


def _fitting(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The image's settings as they can stand beside the user's."""
    found = dict(base)
    if _uses_snapshotter(wanted):
        found["storage-driver"] = _SNAPSHOTTER
    if wanted.get("log-driver", _LIMITED[0]) not in _LIMITED:
        found.pop("log-opts", None)
    return found


def _uses_snapshotter(wanted: Mapping[str, Any]) -> bool:
    features = wanted.get("features")
    return isinstance(features, dict) and features.get("containerd-snapshotter") is True


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _shown(value: Any) -> str:
    return json.dumps(value)


def daemon_settings(base: dict[str, Any], spec: MachineSpec, plan: NetworkPlan) -> dict[str, Any]:
    """`base` with what this computer and machine.yaml want. Mappings (log-opts) are merged, other values replaced.

    :raises SpecError: see `check_daemon`.
    """
    check_daemon(spec)
    base = _fitting(base, spec.daemon)
    ours: dict[str, Any] = {"host-gateway-ip": plan.network.gateway}
    if "default-address-pools" not in spec.daemon and (pools := engine_pools(plan.taken)):
        ours["default-address-pools"] = pools
    ours |= {key: list(spec.registries[short]) for short, key in _REGISTRIES.items() if spec.registries.get(short)}
    if instead := spec.registries.get("default"):
        others = ours.get("registry-mirrors", [])
        ours["registry-mirrors"] = [instead, *(one for one in others if one != instead)]
    settings = {**base, **ours}
    for key, value in spec.daemon.items():
        there = settings.get(key)
        settings[key] = {**there, **value} if isinstance(there, dict) and isinstance(value, dict) else value
    return settings
