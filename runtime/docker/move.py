"""Move a container from one engine to another: its image, writable layer, options and named volumes' content.

Everything travels through the two engines' APIs as streams; nothing is stored on the host. The container is
removed from where it was only when the copy stands, and a failure undoes what was made at the destination.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from runtime.docker.api import EngineApi, EngineApiError, path_part, read_chunks

if TYPE_CHECKING:
    from images.progress import Progress

# Fields of HostConfig that only make sense where the container was made.
_LOCAL_ONLY = ("CgroupParent", "ContainerIDFile", "Cgroup")
_STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Moved:
    """What was done: the container's name, its new id, volumes copied, bytes carried."""

    name: str
    container_id: str
    volumes: tuple[str, ...]
    carried: int
    running: bool


def move_container(source: EngineApi, target: EngineApi, container: str, progress: Progress) -> Moved:
    """Move `container` (name or id) and return what was done.

    A running one is stopped, moved, and started at the target. Named volumes are copied under their names; one of
    that name at the target is an error, never overwritten. The volumes at the source are kept.

    :raises HostvmError: no such container, a name already taken, bind mounts, one that runs and was made with --rm,
        or an engine's refusal. The container then is where it was, running if it ran.
    """
    facts = source.call("GET", f"/containers/{path_part(container)}/json")
    name = facts["Name"].lstrip("/")
    _refuse_binds(facts, name)
    running = bool(facts["State"]["Running"])
    if running:
        _refuse_removed_at_stop(facts, name)
    volumes = _named_volumes(facts)
    _refuse_taken(target, name, [volume for volume, _ in volumes])
    carried = 0
    with ExitStack() as undo:
        if running:
            with progress.step(f"stop {name}"):
                source.call("POST", f"/containers/{facts['Id']}/stop", query={"t": _STOP_SECONDS})
            undo.callback(_quietly, source, "POST", f"/containers/{facts['Id']}/start")
        image, size = _carry_image(source, target, facts, progress, undo)
        carried += size
        created = _create(target, facts, image, [volume for volume, _ in volumes], undo)
        for volume, place in volumes:
            carried += _carry_volume(source, target, facts["Id"], created, place, f"volume {volume}", progress)
        if running:
            with progress.step(f"start {name}"):
                target.call("POST", f"/containers/{created}/start")
        undo.pop_all()
    with progress.step(f"remove {name} from where it was"):
        source.call("DELETE", f"/containers/{facts['Id']}", query={"force": 1})
    return Moved(name, created, tuple(volume for volume, _ in volumes), carried, running)


def _refuse_binds(facts: dict[str, Any], name: str) -> None:
    binds = [mount["Source"] for mount in facts["Mounts"] if mount["Type"] == "bind"]
    if binds:
        raise HostvmError(
            f"{name} has folders of its machine mounted and cannot be moved",
            "\n".join(binds),
            "keep such data in a named volume (docker run -v NAME:/path), which moves along",
        )


def _refuse_removed_at_stop(facts: dict[str, Any], name: str) -> None:
    if facts["HostConfig"].get("AutoRemove"):
        raise HostvmError(
            f"{name} was made with --rm and cannot be moved while it runs",
            "it has to be stopped for that, and its engine would then remove it, with its unnamed volumes",
            f"make it anew without --rm; for what it has written: hostvm docker commit {name} {name}-kept",
        )


def _named_volumes(facts: dict[str, Any]) -> list[tuple[str, str]]:
    mounts = [mount for mount in facts["Mounts"] if mount["Type"] == "volume"]
    return sorted((mount["Name"], mount["Destination"]) for mount in mounts)


def _refuse_taken(target: EngineApi, name: str, volumes: list[str]) -> None:
    for kind, path in [("container", f"/containers/{path_part(name)}/json")] + [
        ("volume", f"/volumes/{path_part(volume)}") for volume in volumes
    ]:
        try:
            target.call("GET", path)
        except EngineApiError as fault:
            if fault.status != 404:  # noqa: PLR2004 - HTTP: not found, as hoped
                raise
            continue
        what = name if kind == "container" else path.rsplit("/", 1)[1]
        raise HostvmError(
            f"the target already has a {kind} called {what}",
            "nothing there is ever overwritten",
            f"rename or remove it there, for example: hostvm -m TARGET docker {kind} rm {what}",
        )


def _carry_image(
    source: EngineApi, target: EngineApi, facts: dict[str, Any], progress: Progress, undo: ExitStack
) -> tuple[str, int]:
    """Commit the writable layer, stream the image across; gives its reference and the bytes carried."""
    name = facts["Name"].lstrip("/")
    repo, tag = "hostvm-moved", f"{name.lower()}-{facts['Id'][:12]}"
    reference = f"{repo}:{tag}"
    with progress.step("commit the writable layer"):
        query = {"container": facts["Id"], "repo": repo, "tag": tag, "pause": 0}
        source.call("POST", "/commit", query=query, body={})
    undo_source = ExitStack()
    undo_source.callback(_quietly, source, "DELETE", f"/images/{path_part(reference)}")
    with undo_source, source.open("GET", f"/images/{path_part(reference)}/get") as response:
        size = _copy(read_chunks(response), "image", progress, lambda chunks: _load(target, chunks))
    undo.callback(_quietly, target, "DELETE", f"/images/{path_part(reference)}")
    return reference, size


def _load(target: EngineApi, chunks: Any) -> None:
    answer = target.upload("POST", "/images/load", chunks, query={"quiet": 1})
    if '"errorDetail"' in answer:  # the status is 200 long before the engine has read the archive
        raise HostvmError("the target engine refused the image", answer.strip(), "look with: hostvm logs")


def _create(target: EngineApi, facts: dict[str, Any], image: str, volumes: list[str], undo: ExitStack) -> str:
    config = dict(facts["Config"], Image=image)
    if config.get("Hostname") == facts["Id"][:12]:
        config["Hostname"] = ""  # the default follows the new id
    host = {key: value for key, value in facts["HostConfig"].items() if key not in _LOCAL_ONLY}
    networks = facts["NetworkSettings"]["Networks"]
    for network in sorted(networks):
        if network not in ("bridge", "host", "none", "default"):
            _ensure_network(target, network)
    endpoints = {
        network: {"Aliases": [alias for alias in entry.get("Aliases") or [] if alias != facts["Id"][:12]]}
        for network, entry in networks.items()
        if network not in ("bridge", "host", "none", "default")
    }
    body = {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}
    name = facts["Name"].lstrip("/")
    created = str(target.call("POST", "/containers/create", query={"name": name}, body=body)["Id"])
    # Undone in reverse: volumes can only go after the container that holds them.
    for volume in volumes:
        undo.callback(_quietly, target, "DELETE", f"/volumes/{path_part(volume)}")
    undo.callback(_quietly, target, "DELETE", f"/containers/{created}?force=1")
    return created


def _ensure_network(target: EngineApi, network: str) -> None:
    try:
        target.call("GET", f"/networks/{path_part(network)}")
    except EngineApiError as fault:
        if fault.status != 404:  # noqa: PLR2004 - HTTP: not found, so it is made
            raise
        target.call("POST", "/networks/create", body={"Name": network, "CheckDuplicate": True})


def _carry_volume(
    source: EngineApi, target: EngineApi, old: str, new: str, place: str, title: str, progress: Progress
) -> int:
    """The archive API sees a container's volumes whether it runs or not, so no helper container is needed."""
    parent = str(PurePosixPath(place).parent)
    with source.open("GET", f"/containers/{old}/archive", query={"path": place}) as response:
        return _copy(
            read_chunks(response),
            title,
            progress,
            lambda chunks: target.upload("PUT", f"/containers/{new}/archive", chunks, query={"path": parent}),
        )


def _copy(chunks: Any, title: str, progress: Progress, send: Any) -> int:
    carried = 0

    def counted() -> Any:
        nonlocal carried
        for chunk in chunks:
            carried += len(chunk)
            task.advance(len(chunk))
            yield chunk

    with progress.task(title, None, "B") as task:
        send(counted())
    return carried


def _quietly(api: EngineApi, method: str, path: str) -> None:
    """An undo step; its own failure must not hide the error that made it necessary."""
    try:
        api.call(method, path)
    except HostvmError:
        return
