r"""Run by CPython for Windows: serves a pipe and connects to it as docker's library does. Prints JSON.

go-winio opens the pipe overlapped, ends its side with FlushFileBuffers and an empty message, and takes an empty
read for the other side's end; `PipeConnection` does the same from either end.
"""

from __future__ import annotations

import _winapi
import json
import os
import socket
import sys
import threading
import time

from hostvm.platform.named_pipe import PipeConnection, PipeListener

ERROR_PIPE_BUSY = 231
facts: dict[str, object] = {}
listener = PipeListener(f"docker_engine-hostvm-test-{os.getpid()}")
ended: list[str] = []


def serve(connection: PipeConnection) -> None:
    """Answer with the number of bytes once the client has ended its side; then wait for it to go."""
    total = 0
    while data := connection.recv(65536):
        total += len(data)
    connection.sendall(b"%d bytes" % total)
    connection.shutdown(socket.SHUT_WR)
    connection.wait_hangup()
    connection.close()
    ended.append("client gone")


def accept() -> None:
    while True:
        try:
            connection = listener.accept()
        except OSError as error:
            ended.append(str(error))
            return
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def dial() -> int:
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    while True:
        try:
            return _winapi.CreateFile(
                listener.path, access, 0, 0, _winapi.OPEN_EXISTING, _winapi.FILE_FLAG_OVERLAPPED, 0
            )
        except OSError as error:
            if error.winerror != ERROR_PIPE_BUSY:
                raise
            time.sleep(0.01)


def ask(size: int) -> str:
    handle = dial()
    client = PipeConnection(handle)
    client.sendall(b"x" * size)
    client.shutdown(socket.SHUT_WR)
    answer = b""
    while data := client.recv(100):
        answer += data
    _winapi.CloseHandle(handle)  # without a word, as a killed client
    return answer.decode()


server = threading.Thread(target=accept)
server.start()
facts["sizes"] = [ask(size) for size in (0, 1, 65536, 65537, 5_000_000)]

many: list[str] = []
clients = [threading.Thread(target=lambda: many.append(ask(1000))) for _ in range(50)]
for client in clients:
    client.start()
for client in clients:
    client.join(30)
facts["many"] = sorted(set(many)), len(many)

# Reading and writing at the same time: a plain handle would let the write wait for the read.
handle = dial()
both = PipeConnection(handle)
reader = threading.Thread(target=lambda: facts.update(both=both.recv(100).decode()))
reader.start()
both.sendall(b"x" * 7)
both.shutdown(socket.SHUT_WR)
reader.join(10)
_winapi.CloseHandle(handle)

listener.close()
server.join(10)
facts["server"] = "lives" if server.is_alive() else "ended"
deadline = time.monotonic() + 10
while ended.count("client gone") < 56 and time.monotonic() < deadline:
    time.sleep(0.02)
facts["gone"] = ended.count("client gone")
try:
    _winapi.CloseHandle(dial())
    facts["name"] = "still there"
except OSError as error:
    facts["name"] = type(error).__name__
print(json.dumps(facts))
sys.stdout.flush()
os._exit(0)
