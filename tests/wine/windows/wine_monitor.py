"""Loaded by CPython under Wine when HOSTVM_WINE_MONITOR is set: QEMU's monitor over loopback TCP.

Wine's ws2_32 has no Unix sockets, which Windows has had since version 1803. The port is written where the socket
would lie; nothing else is changed.
"""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
from pathlib import Path

from hostvm import process
from hostvm.drivers.qemu import unix_socket

_popen = process._popen


def popen(words, **options):
    return _popen(tuple(_over_tcp(word) for word in words), **options)


def _over_tcp(word: str) -> str:
    found = re.fullmatch(r"socket,id=qmp,path=(.*),server=on,wait=off", word)
    if found is None:
        return word
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    Path(found[1].replace(",,", ",")).write_text(str(port))
    return f"socket,id=qmp,host=127.0.0.1,port={port},server=on,wait=off"


def connect(path: Path, timeout: float) -> socket.socket:
    try:
        port = int(path.read_text())
    except ValueError as error:
        raise ConnectionRefusedError(str(path)) from error
    return socket.create_connection(("127.0.0.1", port), timeout)


process._popen = popen
unix_socket.connect = connect


# The first program with windows starts Wine's desktop, which inherits its pipes and keeps them open: files do not mind.
_run = process.run


def run(argv, **options):
    if not Path(argv[0]).name.startswith("qemu-system"):
        return _run(argv, **options)
    with tempfile.TemporaryFile() as output:
        child = _popen(tuple(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        status = child.wait(options.get("timeout", 60))
        output.seek(0)
        return process.Result(tuple(argv), status, output.read(), b"")


process.run = run
