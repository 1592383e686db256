"""Listeners of containers that share the guest's own network (`--network host`): found by looking, there are no events.

One small program in the guest, kept, prints the listening sockets whenever it is asked; which container a new one
belongs to is looked up only when the set has changed.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.agent.service import PortForward
from runtime.docker.published import ANY4, ANY6, LOOPBACK4, default_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hostvm.guest import Guest, GuestProcess

# A line of input asks; the answer ends with a dot. State 0A is LISTEN, 07 a UDP socket that is not connected.
_LOOK = """\
BEGIN { split("tcp tcp6 udp udp6", kinds) }
{
  for (i = 1; i <= 4; i++) {
    file = "/proc/net/" kinds[i]
    while ((getline line < file) > 0) {
      split(line, f)
      if (f[4] == (i < 3 ? "0A" : "07")) print kinds[i], f[2], f[10]
    }
    close(file)
  }
  print "."; fflush()
}
"""

# Each of a container's processes' sockets, as "ID socket:[INODE]". The engine's cgroups are named by its containers.
_OWNERS = """\
for id; do
  for procs in $(find /sys/fs/cgroup -path "*$id*" -name cgroup.procs); do
    for pid in $(cat "$procs"); do
      ls -l /proc/$pid/fd 2>/dev/null | grep -o 'socket:.*' | sed "s/^/$id /"
    done
  done
done
"""
_OWNER_LINE = re.compile(r"^(\S+) socket:\[(\d+)\]$", re.MULTILINE)
_CHUNK = 64 * 1024
_EPHEMERAL = 32768
"""From here on (net.ipv4.ip_local_port_range) an unconnected UDP socket is most likely a client's."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket of the guest."""

    protocol: str
    address: str
    port: int
    inode: str


class Look:
    """The kept program; `now` blocks for a round trip, and raises OSError or HostvmError when the guest is gone."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._process: GuestProcess = guest.stream(["busybox", "awk", _LOOK])
        self._rest = b""

    def now(self) -> frozenset[Listener]:
        """What listens."""
        self._process.write_stdin(b"\n")
        while b"\n.\n" not in b"\n" + self._rest:
            more = self._process.read_stdout(_CHUNK)
            if not more:
                raise ConnectionError("the program that looks for listeners has ended")
            self._rest += more
        text, _, self._rest = (b"\n" + self._rest).partition(b"\n.\n")
        return frozenset(parse_listeners(text.decode("ascii", "replace")))

    def owners(self, ids: Iterable[str]) -> dict[str, str]:
        """Which of these containers has which socket: inode -> id."""
        done = self._guest.run(["sh", "-c", _OWNERS, "owners", *ids])
        return {inode: owner for owner, inode in _OWNER_LINE.findall(done.stdout.decode("ascii", "replace"))}

    def close(self) -> None:
        """End the program."""
        self._process.close()


def parse_listeners(text: str) -> list[Listener]:
    """Lines of "KIND HEXADDRESS:HEXPORT INODE", as the kernel writes them (words of the guest's byte order, little)."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 3:  # noqa: PLR2004 - as described
            continue
        kind, place, inode = words
        address, _, port = place.partition(":")
        found.append(Listener(kind.rstrip("6"), _address(address), int(port, 16), inode))
    return found


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)  # noqa: PLR2004 - bytes


def listener_forwards(
    listeners: Iterable[Listener], owners: Mapping[str, str], names: Mapping[str, str], expose: str
) -> dict[PortForward, str]:
    """Forwards for the listeners that belong to a container, with its name.

    A program on the guest's [::] usually hears IPv4 too, so it gets both loopbacks.

    :param owners: inode -> container id; `names`: id -> name.
    """
    defaults = default_addresses(expose)
    found: dict[PortForward, str] = {}
    for one in listeners:
        name = names.get(owners.get(one.inode, ""))
        if name is None or (one.protocol == "udp" and one.port >= _EPHEMERAL):
            continue
        if one.address == ANY4:
            hosts = [defaults[ANY4]]
        elif one.address == ANY6:
            hosts = list(defaults.values())
        elif ipaddress.ip_address(one.address).is_loopback:
            if one.protocol == "tcp":
                found[PortForward("tcp", one.address, one.port, one.address, one.port, outside=False)] = name
            continue
        else:
            continue  # on one network of the guest's only: not meant for this computer
        for host in hosts:
            found.setdefault(PortForward(one.protocol, host, one.port, LOOPBACK4, one.port), name)
    return found
