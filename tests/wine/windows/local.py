"""Run by CPython for Windows: private folders, the control channel's socket, a detached program. Prints JSON."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import threading
import time
from ctypes import wintypes
from pathlib import Path

from hostvm import process, process_id
from hostvm.files import move, private_folder, write_atomic
from hostvm.platform import windows_security
from hostvm.platform.local import LocalListener, connect_local

facts: dict[str, object] = {}
top = Path(sys.argv[1])

# ---- who may open a private folder

folder = private_folder(top / "private")
advapi = ctypes.WinDLL("advapi32", use_last_error=True)
size = wintypes.DWORD()
advapi.GetFileSecurityW(str(folder), 4, None, 0, ctypes.byref(size))
descriptor = ctypes.create_string_buffer(size.value)
advapi.GetFileSecurityW(str(folder), 4, descriptor, size, ctypes.byref(size))
text = ctypes.c_wchar_p()
convert = advapi.ConvertSecurityDescriptorToStringSecurityDescriptorW
convert.argtypes = (ctypes.c_void_p, wintypes.DWORD, wintypes.DWORD, ctypes.c_void_p, ctypes.c_void_p)
convert(descriptor, 1, 4, ctypes.byref(text), None)
facts["acl"] = text.value
facts["sid"] = windows_security.user_sid()

# ---- files

write_atomic(folder / "file", b"one")
write_atomic(folder / "file", b"two")
facts["file"] = (folder / "file").read_text(), sorted(entry.name for entry in folder.iterdir())
reader = (folder / "file").open("rb")
threading.Timer(0.5, reader.close).start()
begun = time.monotonic()
write_atomic(folder / "file", b"three")
facts["held"] = (folder / "file").read_text(), time.monotonic() - begun < 3
(folder / "a").mkdir()
move(folder / "a", folder / "b")
facts["moved"] = (folder / "b").is_dir()

# ---- the control channel: a file with a port and a token

listener = LocalListener(str(folder / "agent.sock"))
admitted: list[bool] = []


def serve() -> None:
    with contextlib.suppress(OSError):
        while True:
            connection = listener.accept()
            admitted.append(listener.admit(connection))
            connection.close()


server = threading.Thread(target=serve)
server.start()
connect_local(listener.path).close()
port = int((folder / "agent.sock").read_bytes().split()[0])
import socket  # noqa: E402 - what a stranger has

with socket.create_connection(("127.0.0.1", port)) as stranger:
    stranger.sendall(b"x" * 32)
    stranger.recv(1)
listener.close()
server.join(10)
facts["admitted"] = admitted
facts["listener"] = "lives" if server.is_alive() else "ended"
try:
    connect_local(listener.path)
except OSError as error:
    facts["after"] = type(error).__name__

# ---- a program that outlives its caller and has no window

if len(sys.argv) > 2:
    log = folder / "log"
    words = "import ctypes, sys, time; print(ctypes.WinDLL('kernel32').GetConsoleWindow(), flush=True); time.sleep(60)"
    child = process.spawn_detached([sys.executable, "-c", words], log)
    deadline = time.monotonic() + 30
    while not log.read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.05)
    facts["window"] = log.read_text().strip()
    facts["alive"] = process_id.is_alive(child)
    facts["killed"] = process_id.kill(child)
print(json.dumps(facts))
sys.stdout.flush()
os._exit(0)
