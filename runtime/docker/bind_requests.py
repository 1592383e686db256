"""Bind mounts of containers that docker clients make by themselves, at docker.sock: as `hostvm docker run` does it.

Folders of this computer become what the guest has them as. A request that names one which is not shared is refused in
the engine's place, which would make an empty folder in the guest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hostvm.errors import ForwardError
from runtime.docker.requests import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class BindJudge:
    """Implements `runtime.docker.requests.Judge`.

    :param tell: the guest's path for one that a client names; raises ForwardError where it is a folder not shared.
    """

    def __init__(self, tell: Callable[[str], str]) -> None:
        self._tell = tell

    def wants(self, parts: Sequence[str]) -> bool:
        """See `Judge`: what makes a container."""
        return list(parts[-2:]) == ["containers", "create"]

    def judge(self, parts: Sequence[str], body: bytes) -> bytes | Refusal:
        """See `Judge`. What is wrong otherwise the engine tells."""
        try:
            asked = json.loads(body)
            changed = [_change(*bind, self._tell) for bind in _binds(asked)]
        except ForwardError as error:
            return Refusal(_facts(error, podman="libpod" in parts))
        except (OSError, ValueError, RecursionError):  # no JSON, a path that can be none
            return body
        return json.dumps(asked).encode() if any(changed) else body


def _facts(error: ForwardError, *, podman: bool) -> dict[str, object]:
    """As the engine says it; Podman's own API has two fields more."""
    message = "\n".join(text for text in (error.brief, error.details, error.resolution) if text)
    return {"cause": error.brief, "message": message, "response": 400} if podman else {"message": message}


def _binds(asked: Any) -> Iterator[tuple[Any, Any, str]]:
    """Where sources stand: in which list or object, at which place or key, and what follows them there."""
    host = _object(_object(asked).get("HostConfig"))
    binds = _list(host.get("Binds"))
    for place, text in enumerate(binds):
        if isinstance(text, str) and ":" in text:
            yield binds, place, text[text.index(":") :]
    for mount in map(_object, _list(host.get("Mounts"))):
        if mount.get("Type") == "bind":
            yield mount, "Source", ""
    for mount in map(_object, _list(_object(asked).get("mounts"))):  # of Podman's own API
        if mount.get("type") == "bind":
            yield mount, "source", ""


def _change(holder: Any, key: Any, rest: str, tell: Callable[[str], str]) -> bool:
    """Put the guest's path where that is another one; names of volumes and what is no whole path stay."""
    text = holder[key] if isinstance(holder, list) else holder.get(key)
    if not isinstance(text, str) or not text.startswith("/"):
        return False
    source = text.removesuffix(rest)
    told = tell(source)
    holder[key] = told + rest
    return told != source


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []
