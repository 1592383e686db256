"""One file with what somebody who helps needs to see: findings, settings, logs; secrets masked, keys left out."""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import TYPE_CHECKING

from hostvm.agent.client import run_in_guest
from hostvm.doctor.redact import redact, redact_facts
from hostvm.engines import LOGS
from hostvm.errors import HostvmError, UsageError
from hostvm.files import tail, write_atomic
from hostvm.machines.observe import observe_all
from hostvm.paths import AGENT_LOG, CONSOLE_LOG, CONSOLE_LOG_BEFORE, MACHINE_YAML, PROVISION_LOG, STATE_JSON
from hostvm.platform.words import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hostvm.doctor.finding import Finding
    from hostvm.machines.observe import Observation

README = """\
What `hostvm doctor --bundle` gathered. Keys, disks and images are not in it; passwords, tokens and the like are masked
by their names and shapes. A secret that has neither may still be in a log: look before you send it on.
"""
_LINES, _BYTES = 5000, 4 * 1024 * 1024
_GUEST_SECONDS = 15.0
_GUEST_FILES = (*LOGS.values(), "/run/log/sshd/current")
_GUEST_COMMANDS = {"dmesg": ["dmesg"], "df": ["df", "-k"], "memory": ["cat", "/proc/meminfo"], "ps": ["ps", "-ef"]}


def write_bundle(path: Path, findings: Sequence[Finding]) -> list[str]:
    """Write a .tar.gz (0600) that is not there yet; gives the names of what is in it.

    :raises UsageError: the file exists.
    :raises OSError: it cannot be written; then there is none, and nothing beside it.
    """
    _require_new(path)
    parts = {"README": README, "doctor.json": _json([finding.facts() for finding in findings])}
    seen = observe_all()
    parts["machines.json"] = _json([one.facts() for one in seen])
    for one in seen:
        parts.update({f"{one.name}/{name}": text for name, text in _machine(one)})
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, text in parts.items():
            _add(tar, name, text)
    _require_new(path)  # the looking around took its time
    write_atomic(path, whole.getvalue())
    return list(parts)


def check_place(path: Path) -> None:
    """Whether a bundle can be written there: looking at everything takes a while.

    :raises UsageError: it exists, or there is no folder that it could be written in.
    """
    _require_new(path)
    if not path.parent.is_dir():
        way = f"make it: {make_folder(str(path.parent))}"
        raise UsageError(f"{path} cannot be written", f"there is no folder {path.parent}", way)


def _require_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists", "it is never overwritten", "name another file: --bundle FILE")


def _machine(seen: Observation) -> Iterator[tuple[str, str]]:
    for name in (MACHINE_YAML, STATE_JSON, CONSOLE_LOG, CONSOLE_LOG_BEFORE, AGENT_LOG, f"{AGENT_LOG}.1", PROVISION_LOG):
        if (seen.paths.folder / name).is_file():
            text = tail(seen.paths.folder / name, _LINES, _BYTES)
            yield name, _redacted_json(text) if name == STATE_JSON else redact(text)
    if (seen.paths.run_dir / "qemu.log").is_file():
        yield "qemu.log", redact(tail(seen.paths.run_dir / "qemu.log", _LINES, _BYTES))
    if not seen.agent:
        return
    for file in _GUEST_FILES:
        yield f"guest{file}", _in_guest(seen, ["tail", "-n", str(_LINES), file])
    for name, argv in _GUEST_COMMANDS.items():
        yield f"guest/{name}", _in_guest(seen, argv)


def _in_guest(seen: Observation, argv: list[str]) -> str:
    try:
        done = run_in_guest(seen.paths.run_dir, argv, timeout=_GUEST_SECONDS)
    except HostvmError as error:
        return redact(f"could not be had: {error.brief}")
    return redact((done.stdout + done.stderr).decode("utf-8", "replace"))


def _json(facts: object) -> str:
    return json.dumps(redact_facts(facts), indent=2)


def _redacted_json(text: str) -> str:
    try:
        return _json(json.loads(text))
    except ValueError:
        return redact(text)


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    member = tarfile.TarInfo(f"hostvm-doctor/{name}")
    member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
    tar.addfile(member, io.BytesIO(data))
