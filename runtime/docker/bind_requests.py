"""Folders of this computer in what docker clients make by themselves, at docker.sock: as `hostvm docker run` does it.

They become what the guest has them as: in bind mounts of containers, in volumes that are a folder, in services of a
swarm. A container of one that is not shared is refused in the engine's place, which would make an empty folder in the
guest; volumes and services are not, since their containers fail by themselves, and name the folder.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from hostvm.errors import ForwardError
from hostvm.shares.named import cut_bind, is_whole
from runtime.docker.requests import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class BindJudge:
    """Implements `runtime.docker.requests.Judge`.

    :param tell: the guest's path for one that a client names; raises ForwardError where it is a folder not shared.
    """

    def __init__(self, tell: Callable[[str], str], platform: str = sys.platform) -> None:
        self._tell = tell
        self._platform = platform

    def wants(self, parts: Sequence[str]) -> bool:
        """See `Judge`: what makes a container, a volume or a service, or changes a service."""
        return (list(parts[-1:]) == ["create"] and list(parts[-2:-1]) in _MADE) or _updates_service(parts)

    def judge(self, parts: Sequence[str], body: bytes) -> bytes | Refusal:
        """See `Judge`. What is wrong otherwise the engine tells."""
        try:
            asked = json.loads(body)
            if list(parts[-2:]) == ["containers", "create"]:
                changed = [self._change(*source) for source in self._of_container(asked)]
                mounts = _object(_object(asked).get("HostConfig")).get("Mounts")
                changed += [self._change_shared(*source) for source in _of_new_volumes(mounts)]
            else:
                changed = [self._change_shared(*source) for source in _of_others(asked)]
        except ForwardError as error:
            return Refusal(_facts(error, podman="libpod" in parts))
        except (OSError, ValueError, RecursionError):  # no JSON, a path that can be none
            return body
        return json.dumps(asked).encode() if any(changed) else body

    def _of_container(self, asked: Any) -> Iterator[_Source]:
        host = _object(_object(asked).get("HostConfig"))
        binds = _list(host.get("Binds"))
        for place, text in enumerate(binds):
            if isinstance(text, str) and (rest := cut_bind(text, self._platform)[1]):
                yield binds, place, rest
        yield from _of_mounts(host.get("Mounts"), "Type", "Source")
        yield from _of_mounts(_object(asked).get("mounts"), "type", "source")  # of Podman's own API

    def _change_shared(self, holder: Any, key: Any, rest: str) -> bool:
        try:
            return self._change(holder, key, rest)
        except ForwardError:
            return False

    def _change(self, holder: Any, key: Any, rest: str) -> bool:
        """Put the guest's path where that is another one; names of volumes and what is no whole path stay."""
        text = holder[key] if isinstance(holder, list) else holder.get(key)
        if not isinstance(text, str):
            return False
        source = text.removesuffix(rest)
        if not is_whole(source, self._platform):
            return False
        told = self._tell(source)
        holder[key] = told + rest
        return told != source


_Source = tuple[Any, Any, str]
"""Where a source stands: in which list or object, at which place or key, and what follows it there."""


_MADE = (["containers"], ["volumes"], ["services"])


def _updates_service(parts: Sequence[str]) -> bool:
    return list(parts[-3:-2]) == ["services"] and parts[-1] == "update"


def _facts(error: ForwardError, *, podman: bool) -> dict[str, object]:
    """As the engine says it; Podman's own API has two fields more."""
    message = "\n".join(text for text in (error.brief, error.details, error.resolution) if text)
    return {"cause": error.brief, "message": message, "response": 400} if podman else {"message": message}


def _of_others(asked: Any) -> Iterator[_Source]:
    """Of a volume of the local driver that is a folder (`o: bind`), and of a service."""
    for name in ("DriverOpts", "Options"):  # the latter is Podman's own API
        yield from _of_volume(_object(_object(asked).get(name)))
    task = _object(_object(asked).get("TaskTemplate"))
    mounts = _object(task.get("ContainerSpec")).get("Mounts")
    yield from _of_mounts(mounts, "Type", "Source")
    yield from _of_new_volumes(mounts)


def _of_new_volumes(mounts: Any) -> Iterator[_Source]:
    """Of volumes that are made with what mounts them (`--mount type=volume,volume-opt=o=bind,...`)."""
    for mount in map(_object, _list(mounts)):
        driver = _object(_object(mount.get("VolumeOptions")).get("DriverConfig"))
        yield from _of_volume(_object(driver.get("Options")))


def _of_volume(options: dict[str, Any]) -> Iterator[_Source]:
    if {"bind", "rbind"} & {*str(options.get("o", "")).split(","), str(options.get("type"))}:
        yield options, "device", ""


def _of_mounts(found: Any, kind: str, source: str) -> Iterator[_Source]:
    for mount in map(_object, _list(found)):
        if mount.get(kind) == "bind":
            yield mount, source, ""


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []
