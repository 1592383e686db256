"""registry start, stop, status, gc, rm."""

from __future__ import annotations

import datetime as dt
import secrets
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import bcrypt

from cli.commands.common import confirm, existing_paths, held_machine, print_facts, print_json, say
from cli.printer import tell
from hostvm.agent.client import AgentAbsent, request
from hostvm.errors import MachineError, UsageError
from hostvm.paths import REGISTRY_CA, REGISTRY_JSON
from hostvm.sizes import MIB, human_size
from hostvm.spec import load_spec
from runtime.registry.certificate import certify, expires_soon
from runtime.registry.service import SERVICE
from runtime.registry.wanted import load_wanted, save_wanted

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from runtime.registry.wanted import Wanted

_SECONDS = 180.0
_CLEANING_SECONDS = 3600.0
_PORT_MOST = 65535
_PASSWORD_MOST = 72
"""Bytes that bcrypt looks at."""

# Every request is checked anew, in a guest that may be emulated; Apache's htpasswd takes 5 by default.
_ROUNDS = 5
_LITTLE = 256 * MIB


def start(options: argparse.Namespace) -> int:
    """Run it, now and at each start of the machine. One that runs as it is to be is no error."""
    paths = existing_paths(options)
    spec = load_spec(paths.spec)
    if options.mirror and _apart(spec):
        raise UsageError(
            "--mirror: this machine's engine, being rootless, does not reach the guest's own ports",
            "it has a network of its own",
            "run the mirror on another machine, and name it there: docs/engines.md",
        )
    with held_machine(paths):
        before = load_wanted(paths.folder)
        running = _ask(paths, "look")["running"]
        if running and _named(options):
            raise MachineError(
                f"the registry of machine {paths.name} runs already",
                f"at {before.url}; it does not change while it runs",
                f"hostvm registry stop {paths.name}   # then start it with other options",
            )
        wanted, password = _wanted(before, options, paths.name)
        save_wanted(paths.folder, wanted)
        try:
            seen = _ask(paths, "up")
        except BaseException:
            save_wanted(paths.folder, before)
            raise
    facts = _facts(paths, wanted, seen)
    if options.json:
        return print_json({**facts, "password": password or None})
    say(options, f"the registry of machine {paths.name} {'runs already' if running else 'runs'} at {wanted.url}")
    if password:
        sys.stdout.write(f"password of {wanted.user}: {password}\n")
        say(options, f"it is shown this once; log in with: hostvm docker login -u {wanted.user} {wanted.address}")
    if facts["ca"]:
        say(options, f"its certificate authority, for programs of this computer: {facts['ca']}")
    say(options, _next_step(wanted, spec))
    _warn(facts)
    return 0


def _apart(spec: MachineSpec) -> bool:
    """Whether the engine sees another loopback than the guest's, where the registry listens."""
    return spec.rootless and spec.engine == "docker"


def _next_step(wanted: Wanted, spec: MachineSpec) -> str:
    if _apart(spec):
        return "it is for this computer and other machines; this one's engine, being rootless, does not reach it"
    if wanted.mirror:
        return f"the engine asks it before {wanted.mirror}; pull as ever"
    return f"Try: hostvm docker push {wanted.address}/IMAGE"


def stop(options: argparse.Namespace) -> int:
    """Run it no more; also while the machine is off."""
    paths = existing_paths(options)
    with held_machine(paths):
        wanted = load_wanted(paths.folder)
        if wanted != (after := replace(wanted, on=False)):
            save_wanted(paths.folder, after)
        seen = _ask_quietly(paths, "down")
    if options.json:
        return print_json(_facts(paths, after, seen))
    say(options, f"the registry of machine {paths.name} " + ("is stopped" if wanted.on else "was stopped already"))
    return 0


def status(options: argparse.Namespace) -> int:
    """What it is and how much it holds. The exit status is 0 when it runs and 1 otherwise, for scripts."""
    paths = existing_paths(options)
    wanted = load_wanted(paths.folder)
    facts = _facts(paths, wanted, _ask_quietly(paths, "look"))
    if options.json:
        print_json(facts)
    else:
        print_facts(_lines(facts), 13)
        _warn(facts)
    return 0 if facts["status"] == "running" else 1


def clean(options: argparse.Namespace) -> int:
    """Free what no image of it needs any more."""
    paths = existing_paths(options)
    with held_machine(paths):
        wanted = load_wanted(paths.folder)
        if not _ask(paths, "look")["running"]:
            raise MachineError(
                f"the registry of machine {paths.name} does not run", None, f"hostvm registry start {paths.name}"
            )
        if wanted.mirror:
            raise MachineError(
                f"the registry of machine {paths.name} is a mirror",
                "a mirror deletes by itself what it fetched a week ago",
                f"hostvm registry rm {paths.name}   # deletes all of it",
            )
        done = _ask(paths, "clean", timeout=_CLEANING_SECONDS)
    freed = max(0, done["before"] - done["after"])
    if options.json:
        return print_json({"freed": freed, "bytes": done["after"], "blobs": done["blobs"]})
    say(options, f"{human_size(freed)} freed, {done['blobs']} blobs deleted; {human_size(done['after'])} are left")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Delete all of it."""
    paths = existing_paths(options)
    if not options.force:
        if not sys.stdin.isatty():
            raise UsageError(
                f"all images of the registry of machine {paths.name} would be deleted",
                "nobody can be asked without a terminal",
                f"hostvm registry rm --force {paths.name}",
            )
        if not confirm(f"Delete the registry of machine {paths.name} with all its images?"):
            say(options, "nothing was deleted")
            return 1
    with held_machine(paths):
        load_wanted(paths.folder)
        had = _ask(paths, "wipe", timeout=_CLEANING_SECONDS)
        (paths.folder / REGISTRY_JSON).unlink(missing_ok=True)
        (paths.folder / REGISTRY_CA).unlink(missing_ok=True)
    if options.json:
        return print_json({"freed": had["bytes"]})
    say(options, f"the registry of machine {paths.name} is deleted, {human_size(had['bytes'])} are free again")
    return 0


# ---- what is wanted


def _named(options: argparse.Namespace) -> bool:
    """Whether any setting is given."""
    flags = options.no_auth or options.no_mirror or options.password_stdin
    given = (options.port, options.auth, options.tls, options.mirror)
    return flags or any(one is not None for one in given)


def _wanted(before: Wanted, options: argparse.Namespace, machine: str) -> tuple[Wanted, str]:
    """The settings, and the password that was made up for them.

    :raises UsageError: they cannot be.
    """
    wanted = replace(before, on=True, secret=before.secret or secrets.token_hex(32))
    if options.port is not None:
        if not 1 <= options.port <= _PORT_MOST:
            raise UsageError(f"{options.port} is not a port", "a port is from 1 to 65535", "hostvm registry start")
        wanted = replace(wanted, port=options.port)
    if options.no_mirror:
        wanted = replace(wanted, mirror="")
    if options.mirror is not None:
        wanted = replace(wanted, mirror=_url(options.mirror))
    wanted, password = _authorised(wanted, options)
    if wanted.mirror and wanted.user:
        raise UsageError(
            "a mirror cannot ask for a password",
            "the engine logs in at no mirror",
            f"hostvm registry start {machine} --mirror {wanted.mirror} --no-auth",
        )
    return _certified(wanted, machine, tls=options.tls), password


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise UsageError(
            f"{text} is not the URL of a registry",
            "it begins with https:// or http:// and ends with the host; a machine's name goes before --mirror",
            "hostvm registry start --mirror https://registry.example",
        )
    return text.rstrip("/")


def _authorised(wanted: Wanted, options: argparse.Namespace) -> tuple[Wanted, str]:
    if options.password_stdin and options.auth is None:
        raise UsageError("--password-stdin needs a user", None, "hostvm registry start --auth USER --password-stdin")
    if options.no_auth:
        return replace(wanted, user="", hashed=""), ""
    if options.auth is None:
        return wanted, ""
    user = options.auth
    if not user or ":" in user or not user.isprintable() or user != user.strip():
        raise UsageError(f"'{user}' cannot be a user's name", "it holds no colon", "hostvm registry start --auth USER")
    made = "" if options.password_stdin else secrets.token_urlsafe(18)
    password = (made or sys.stdin.readline().rstrip("\r\n")).encode()
    if not 1 <= len(password) <= _PASSWORD_MOST or b"\0" in password:
        raise UsageError(
            "the password is empty or too long",
            f"bcrypt takes 1 to {_PASSWORD_MOST} bytes",
            f"one line on standard input: hostvm registry start --auth {user} --password-stdin < FILE",
        )
    return replace(wanted, user=user, hashed=bcrypt.hashpw(password, bcrypt.gensalt(_ROUNDS)).decode()), made


def _certified(wanted: Wanted, machine: str, *, tls: bool | None) -> Wanted:
    if tls is False or (tls is None and not wanted.certificate):
        return replace(wanted, ca="", certificate="", key="")
    now = dt.datetime.now(dt.UTC)
    if wanted.certificate and not expires_soon(wanted.certificate, now):
        return wanted
    ca, certificate, key = certify(machine, now)
    return replace(wanted, ca=ca, certificate=certificate, key=key)


# ---- what there is


def _ask(paths: MachinePaths, what: str, *, timeout: float = _SECONDS) -> dict[str, Any]:
    return request(paths.run_dir, SERVICE, timeout=timeout, do=what)


def _ask_quietly(paths: MachinePaths, what: str) -> dict[str, Any] | None:
    """None when the machine does not run."""
    try:
        return _ask(paths, what)
    except AgentAbsent:
        return None


def _facts(paths: MachinePaths, wanted: Wanted, seen: dict[str, Any] | None) -> dict[str, Any]:
    """Without secrets. What only a running guest knows is null when there is none."""
    seen = seen or {"running": False, "bytes": None, "free": None, "repositories": None, "failed": {}}
    return {
        "name": paths.name,
        "status": "running" if seen["running"] else "stopped",
        "wanted": wanted.on,
        "address": wanted.address,
        "url": wanted.url,
        "user": wanted.user or None,
        "ca": str(paths.folder / REGISTRY_CA) if wanted.ca else None,
        "mirror": wanted.mirror or None,
        "repositories": seen["repositories"],
        "bytes": seen["bytes"],
        "free": seen["free"],
        "failed": seen["failed"],
    }


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    later = " (until the machine starts)" if facts["wanted"] and facts["status"] != "running" else ""
    found = [("status", facts["status"] + later), ("address", facts["url"])]
    found += [(key, facts[key]) for key in ("user", "ca", "mirror") if facts[key]]
    if facts["bytes"] is not None:
        found += [
            ("repositories", ", ".join(facts["repositories"]) or "none"),
            ("space", f"{human_size(facts['bytes'])}; {human_size(facts['free'])} are free on the data disk"),
        ]
    return found


def _warn(facts: dict[str, Any]) -> None:
    for there, why in facts["failed"].items():
        tell(f"hostvm: {there} of this computer cannot be opened: {why}")
    if facts["free"] is not None and facts["free"] < _LITTLE:
        tell(
            f"hostvm: the data disk is nearly full ({human_size(facts['free'])} are free), and pushes will fail with "
            f"status 500\n  hostvm registry gc {facts['name']}   # or a larger disk: "
            f"hostvm set {facts['name']} disk=SIZE"
        )
