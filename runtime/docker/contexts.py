"""Docker contexts that lead to machines, written as docker's own files, so that no docker client is needed for it.

A context is `$DOCKER_CONFIG/contexts/meta/SHA256(NAME)/meta.json` (docker/cli, cli/context/store); the one in use is
`currentContext` in `$DOCKER_CONFIG/config.json`. Docker keeps fields of `Metadata` that it does not know, so ours
carry the machine and its home: that tells them from other people's, and from those of another hostvm home.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from hostvm.errors import HostvmError
from hostvm.files import private_folder, write_atomic
from hostvm.paths import DEFAULT_MACHINE

_MARK = "hostvm"


class ContextError(HostvmError):
    """A docker context cannot be written or used."""


def context_name(machine: str) -> str:
    """`hostvm` for the default machine, `hostvm-NAME` for others."""
    return "hostvm" if machine == DEFAULT_MACHINE else f"hostvm-{machine}"


def docker_config() -> Path:
    """Where docker clients keep their settings."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


class MachineContext:
    """One machine's docker context.

    :param config: `docker_config()`.
    :param home: the folder of all machines; a context of another one is somebody else's as long as its machine exists.
    """

    def __init__(self, config: Path, machine: str, home: Path) -> None:
        self.name = context_name(machine)
        self._machine = machine
        self._home = home
        self._config = config
        self._id = hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def path(self) -> Path:
        """The context's own file."""
        return self._config / "contexts" / "meta" / self._id / "meta.json"

    def write(self, docker_host: str) -> bool:
        """Make it or set it right; False when it was right already.

        :raises ContextError: a context of that name is not ours.
        :raises OSError: it cannot be written.
        """
        there = self._read()
        if there is not None and not self._may_replace(there):
            raise ContextError(
                f"there is a docker context '{self.name}' that is not this machine's",
                f"{self.path} was made by somebody else, so it stays as it is",
                f"docker context rm {self.name}   # if it is not needed, then: hostvm context use {self._machine}",
            )
        mark = {"machine": self._machine, "home": str(self._home)}
        if there is not None and (previous := there["Metadata"][_MARK].get("previous")) is not None:
            mark["previous"] = previous
        wanted = _meta(self.name, self._machine, docker_host, mark)
        if there == wanted:
            return False
        private_folder(self._config) if not self._config.exists() else None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, _dump(wanted), 0o644)
        return True

    def use(self) -> bool:
        """Make it the one that docker clients use; False when it was already. `write` comes first.

        :raises ContextError: docker's config.json is damaged.
        :raises OSError: it cannot be written.
        """
        settings = self._settings()
        current = settings.get("currentContext", "")
        if current == self.name:
            return False
        meta = self._read()
        if meta is not None:
            meta["Metadata"][_MARK]["previous"] = current
            write_atomic(self.path, _dump(meta), 0o644)
        self._store({**settings, "currentContext": self.name})
        return True

    def remove(self) -> None:
        """Delete it when it is ours, giving back what was in use before when docker still uses it. Idempotent.

        :raises ContextError: docker's config.json is damaged; the context is gone all the same.
        :raises OSError: something cannot be written.
        """
        meta = self._read()
        if meta is None or not self._is_ours(meta):
            return
        previous = str(meta["Metadata"][_MARK].get("previous") or "")
        for part in ("meta", "tls"):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._config / "contexts" / part / self._id)
        settings = self._settings()
        if settings.get("currentContext") != self.name:
            return
        del settings["currentContext"]
        if previous and self._exists(previous):
            settings["currentContext"] = previous
        self._store(settings)

    def describe(self) -> dict[str, Any]:
        """Name, whose it is, where it leads, whether docker uses it."""
        with contextlib.suppress(HostvmError, OSError):
            meta = self._read()
            current = self._settings().get("currentContext", "") == self.name
            return {
                "name": self.name,
                "machine": self._machine,
                "state": "missing" if meta is None else "ours" if self._is_ours(meta) else "foreign",
                "host": _host_of(meta),
                "current": current,
            }
        return {"name": self.name, "machine": self._machine, "state": "unreadable", "host": "", "current": False}

    # ---- files

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _is_ours(self, meta: dict[str, Any]) -> bool:
        return _mark_of(meta).get("machine") == self._machine and _mark_of(meta).get("home") == str(self._home)

    def _may_replace(self, meta: dict[str, Any]) -> bool:
        mark = _mark_of(meta)
        if mark.get("machine") != self._machine:
            return False
        # Of a home that is gone, or whose machine is: nobody would ever take it away.
        return self._is_ours(meta) or not Path(str(mark.get("home")), "machines", self._machine).is_dir()

    def _exists(self, name: str) -> bool:
        folder = hashlib.sha256(name.encode()).hexdigest()
        return (self._config / "contexts" / "meta" / folder / "meta.json").exists()

    def _settings(self) -> dict[str, Any]:
        path = self._config / "config.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8") or "{}")
        except FileNotFoundError:
            return {}
        except ValueError as fault:
            found = fault
        if not isinstance(found, dict):
            raise ContextError(
                "docker's settings are damaged",
                f"{path}: {found if isinstance(found, ValueError) else 'not an object'}",
                f"repair or remove {path}, then: hostvm context use {self._machine}",
            )
        return found

    def _store(self, settings: dict[str, Any]) -> None:
        path = (self._config / "config.json").resolve()  # a link into somebody's dotfiles stays one
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        write_atomic(path, json.dumps(settings, indent="\t", ensure_ascii=False).encode(), mode)


def _meta(name: str, machine: str, docker_host: str, mark: dict[str, str]) -> dict[str, Any]:
    return {
        "Name": name,
        "Metadata": {"Description": f"hostvm machine {machine}", _MARK: mark},
        "Endpoints": {"docker": {"Host": docker_host, "SkipTLSVerify": False}},
    }


def _dump(meta: dict[str, Any]) -> bytes:
    return json.dumps(meta, ensure_ascii=False).encode()


def _mark_of(meta: dict[str, Any]) -> dict[str, Any]:
    metadata = meta.get("Metadata")
    mark = metadata.get(_MARK) if isinstance(metadata, dict) else None
    return mark if isinstance(mark, dict) else {}


def _host_of(meta: dict[str, Any] | None) -> str:
    endpoints = (meta or {}).get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    return str(docker.get("Host", "")) if isinstance(docker, dict) else ""
