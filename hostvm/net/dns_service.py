"""The guest's and its containers' DNS, answered by this computer while an agent is there to do it."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from hostvm.agent.service import Host
    from hostvm.guest import Guest, GuestProcess
    from hostvm.net.addresses import GuestNetwork
    from hostvm.net.dns_server import DnsServer

_PAUSE = 2.0
_READY = b"ready"


def redirect_script(network: GuestNetwork, port: int) -> str:
    """The guest's side: lead queries for slirp's forwarder to `port` here until standard input ends.

    However the connection ends, the kernel closes that input; the rules go then, and slirp's own forwarder is back.
    Rules of a connection before this one lie behind the new ones and are removed by their own script.
    """
    rules = [
        f"{chain} -d {network.dns} -p {protocol} --dport 53 -j DNAT --to-destination {network.gateway}:{port}"
        for chain in ("OUTPUT", "PREROUTING")
        for protocol in ("udp", "tcp")
    ]
    lines = "\\n".join(f"%s {rule}" for rule in rules)
    return (
        "trap '' HUP TERM INT\n"
        f"rules() {{ printf '*nat\\n{lines}\\nCOMMIT\\n' $1 $1 $1 $1 | iptables-restore --noflush; }}\n"
        f"rules -I || exit 1\necho {_READY.decode()}\ncat > /dev/null\nrules -D\n"
    )


class DnsService:
    """Implements `hostvm.agent.service.Service`."""

    name = "dns"
    early = False

    def __init__(self, network: GuestNetwork) -> None:
        self._network = network
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._process: GuestProcess | None = None
        self._server: DnsServer | None = None
        self._active = False

    def begin(self, host: Host) -> None:
        """See `Begins.begin`: dnspython is imported while ssh comes up, not before the agent can knock there."""
        del host
        threading.Thread(target=_import_server, name="dns-import", daemon=True).start()

    def end(self) -> None:
        """See `Begins.end`."""

    def start(self, guest: Guest, host: Host) -> None:
        """Begin to answer; until the guest's rules stand its queries go to slirp's forwarder."""
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(guest, host, self._stopped), name="dns", daemon=True).start()

    def stop(self) -> None:
        """Give DNS back to slirp."""
        with self._lock:
            self._stopped.set()
            process, server = self._process, self._server
        if process is not None:
            process.close_stdin()
        if server is not None:
            server.close()

    def describe(self) -> dict[str, Any]:
        """Who answers the guest."""
        server = self._server
        return {"answered_by": "host" if self._active else "slirp", "port": server.port if server else None}

    def _run(self, guest: Guest, host: Host, stopped: threading.Event) -> None:
        from hostvm.net.dns_server import DnsServer
        from hostvm.net.lookup import Lookup

        while not stopped.is_set():
            try:
                server = DnsServer(Lookup(self._network.gateway), host.log)
                try:
                    self._serve(guest, host, stopped, server)
                finally:
                    server.close()
            except (OSError, HostvmError) as fault:
                if not stopped.is_set():
                    host.log(f"dns: {fault}".replace("\n", ": "))
            stopped.wait(_PAUSE)

    def _serve(self, guest: Guest, host: Host, stopped: threading.Event, server: DnsServer) -> None:
        process = guest.stream(["/bin/sh", "-c", redirect_script(self._network, server.port)])
        with self._lock:
            self._process, self._server = process, server
            if stopped.is_set():
                process.close_stdin()
        said = b""
        try:
            while data := process.read_stdout(4096):
                said += data
                self._active = _READY in said
            if not self._active and (why := process.read_stderr(4096).decode(errors="replace").strip()):
                # Without a word it ended with the guest, which was stopped or suspended.
                host.log(f"dns: the guest's rules were not set: {why}")
        finally:
            self._active = False
            with self._lock:
                self._process = self._server = None
            process.close()


def _import_server() -> None:
    import_module("hostvm.net.dns_server")
