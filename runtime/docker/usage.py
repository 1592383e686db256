"""What the engine's things take on the guest's disk, and deleting those that nothing uses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.docker.api import EngineApi


@dataclass(frozen=True, slots=True)
class Use:
    """One kind of things.

    :param count: how many there are; `active`: how many of them a container uses.
    :param size: bytes; `reclaimable`: those that a prune of the kind would free.
    """

    count: int
    active: int
    size: int
    reclaimable: int


KINDS = ("images", "containers", "volumes", "build_cache")


def engine_use(api: EngineApi) -> dict[str, Use]:
    """Every kind's use, by `KINDS`.

    :raises EngineApiError: the engine does not answer.
    """
    return read_use(api.call("GET", "/system/df"))


def read_use(told: dict[str, Any]) -> dict[str, Use]:
    """The answer to GET /system/df, counted as `docker system df` does."""
    images, containers = told.get("Images") or [], told.get("Containers") or []
    volumes, cache = told.get("Volumes") or [], told.get("BuildCache") or []
    used = [image for image in images if image.get("Containers", 0) > 0]
    whole = int(told.get("LayersSize") or 0)
    kept = sum(max(0, image["Size"] - max(0, image.get("SharedSize", 0))) for image in used)
    running = [one for one in containers if one.get("State") in ("running", "paused", "restarting")]
    data = [one.get("UsageData") or {} for one in volumes]
    sizes = [max(0, one.get("Size", 0)) for one in data]
    free = [size for size, one in zip(sizes, data, strict=True) if one.get("RefCount", 0) == 0]
    parts = [part for part in cache if not part.get("Shared")]
    return {
        "images": Use(len(images), len(used), whole, max(0, whole - kept)),
        "containers": Use(
            len(containers),
            len(running),
            _writable(containers),
            _writable([one for one in containers if one not in running]),
        ),
        "volumes": Use(len(volumes), len(volumes) - len(free), sum(sizes), sum(free)),
        "build_cache": Use(
            len(cache),
            sum(bool(part.get("InUse")) for part in cache),
            sum(part["Size"] for part in parts),
            sum(part["Size"] for part in parts if not part.get("InUse")),
        ),
    }


def _writable(containers: list[dict[str, Any]]) -> int:
    return sum(int(one.get("SizeRw") or 0) for one in containers)


_PRUNES = {
    "containers": ("/containers/prune", {}),
    "networks": ("/networks/prune", {}),
    "images": ("/images/prune", {"filters": json.dumps({"dangling": ["false"]})}),
    "build_cache": ("/build/prune", {"all": "true"}),
    "volumes": ("/volumes/prune", {"filters": json.dumps({"all": ["true"]})}),
}
PRUNABLE = tuple(_PRUNES)
"""In the order in which they are pruned: containers hold on to the rest."""


def prune_engine(api: EngineApi, kinds: set[str]) -> dict[str, int]:
    """Delete what nothing uses, of some of `PRUNABLE`; gives the bytes that the engine says it freed, by kind.

    :raises EngineApiError: the engine refuses; what was pruned before stays so.
    """
    freed = {}
    for kind in PRUNABLE:
        if kind in kinds:
            path, query = _PRUNES[kind]
            freed[kind] = int((api.call("POST", path, query=query) or {}).get("SpaceReclaimed") or 0)
    return freed
