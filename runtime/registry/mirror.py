"""How a machine's engine is told of its own registry that is a mirror of Docker Hub, and that it is none any more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.containerd.registries import NO_HOSTS, mirrored_hosts
from runtime.podman.settings import mirrored_conf
from runtime.registry.files import mirrored, unmirrored

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.guest import Guest

_SECONDS = 60.0
_BEFORE = "/run/hostvm/seed/engine.before-mirror"


@dataclass(frozen=True, slots=True)
class _Way:
    """One engine's.

    :param settings: of this boot; its service takes them at each of its starts.
    :param change: those before any mirror, those of now and the mirror's URL ("": none) -> those to be.
    :param place: where its service copies them to; "": it reads them where they are.
    :param service: reads them anew when it is told to; "": its clients read them each time.
    :param missing: what no settings mean; "": nothing is told of then.
    """

    settings: str
    change: Callable[[str, str, str], str]
    place: str = ""
    service: str = ""
    missing: str = ""


def _dockerd(before: str, now: str, url: str) -> str:
    old, there = json.loads(before), json.loads(now)
    wanted = mirrored(old, url) if url else unmirrored(old, there)
    return now if wanted == there else json.dumps(wanted, indent=1)


def _podman(before: str, now: str, url: str) -> str:
    del now
    return mirrored_conf(before, url) if url else before


def _containerd(before: str, now: str, url: str) -> str:
    del now
    return mirrored_hosts(before, url) if url else before


_WAYS = {
    "docker": _Way("/run/hostvm/seed/engine/daemon.json", _dockerd, service="/run/service/dockerd"),
    "podman": _Way(
        "/run/hostvm/seed/engine/registries.conf",
        _podman,
        place="/etc/containers/registries.conf",
        service="/run/service/podman",
    ),
    "containerd": _Way(
        "/run/hostvm/seed/registries/docker.io",
        _containerd,
        place="/etc/containerd/certs.d/docker.io/hosts.toml",
        missing=NO_HOSTS,
    ),
}

# $1: settings, $2: those before, $3: where they are copied to, $4: service, $5: what no settings mean. An engine that
# is not up yet may have read its settings already, and takes no reload before it is: that waits for it, however long,
# and nobody waits for that.
_TELL = """\
umask 077
mkdir -p "${1%/*}"
[ -f "$2" ] || cp "$1" "$2" 2> /dev/null || printf %s "$5" > "$2"
cat > "$2.new" && mv "$2.new" "$1" || exit
tell() {
	if [ -n "$3" ]; then
		umask 022 # an engine need not be root
		mkdir -p "${3%/*}"
		cat "$1" > "$3.new" && mv "$3.new" "$3"
	fi
	[ -z "$4" ] || s6-svc -h "$4"
}
if [ -f /run/hostvm/marks/engine ]; then
	tell "$@"
else
	{
		until [ -f /run/hostvm/marks/engine ]; do busybox usleep 100000; done
		tell "$@"
	} < /dev/null > /dev/null 2>&1 &
fi
"""


def set_mirror(guest: Guest, url: str, engine: str) -> None:
    """Let the engine ask this mirror first; "": no longer. It takes that without a restart."""
    way = _WAYS[engine]
    before, now = _read(guest, _BEFORE, way.settings) or way.missing, _read(guest, way.settings) or way.missing
    if not before or not now:
        return  # an engine without settings has no mirrors
    wanted = way.change(before, now, url)
    if wanted != now:
        words = ["sh", "-c", _TELL, "tell", way.settings, _BEFORE, way.place, way.service, way.missing]
        guest.run(words, stdin=wanted.encode(), timeout=_SECONDS)


def _read(guest: Guest, *paths: str) -> str:
    """The first of them that is there; "" without any."""
    words = ["sh", "-c", 'for file; do [ ! -f "$file" ] || exec cat "$file"; done', "read", *paths]
    return guest.run(words).stdout.decode()
