"""Folders in what docker clients send: become the guest's, or are refused as the engine would. The engine is played."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler

import docker
import pytest

from hostvm.agent.relay import relay
from hostvm.errors import ForwardError
from hostvm.names.route import LocalStream
from runtime.docker.bind_requests import BindJudge
from runtime.docker.requests import ClientRequests, Refusal

DOCKER = ["", "v1.45", "containers", "create"]
PODMAN = ["", "v5.4.0", "libpod", "containers", "create"]
UPLOAD = b"PUT /v1.45/containers/x/archive HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntar\r\n0\r\n\r\n"
REFUSED = ForwardError("/other is not shared with the machine", "it is empty", "hostvm mount add /other")
MESSAGE = "/other is not shared with the machine\nit is empty\nhostvm mount add /other"


def tell(path: str) -> str:
    """`/here` is shared as `/there`, `/same` is the guest's."""
    if path.startswith("/here"):
        return path.replace("/here", "/there")
    if path.startswith("/same"):
        return path
    raise REFUSED


JUDGE = BindJudge(tell)


def judged(asked: object, parts: list[str] = DOCKER) -> object:
    body = json.dumps(asked).encode()
    found = JUDGE.judge(parts, body)
    return found if isinstance(found, Refusal) else "as it was" if found == body else json.loads(found)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/containers/create", True),
        ("/v1.45/containers/create", True),
        ("/v5.4.0/libpod/containers/create", True),
        ("/v1.45/containers/x/start", False),
        ("/v1.45/services/create", True),
        ("/v1.45/services/x/update", True),
        ("/v1.45/containers/x/update", False),
        ("/v1.45/volumes/create", True),
        ("/v5.4.0/libpod/volumes/create", True),
        ("/v1.45/networks/create", False),
        ("/v1.45/images/create", False),
        ("/create", False),
        ("", False),
    ],
)
def test_which_requests_are_read(path, wanted):
    assert JUDGE.wants(path.split("/")) == wanted


def test_what_is_not_posted_is_not_read():
    assert not JUDGE.wants([])
    passage = ClientRequests(JUDGE)(UPLOAD)
    assert (passage.on, passage.back) == (UPLOAD, b"")


def test_folders_of_this_computer_become_the_guests():
    kept = {
        "Image": "busybox",
        "HostConfig": {"Binds": None, "NanoCpus": 1234567890123456789},
        "Labels": {"\u00e9": "1"},
    }
    binds = ["/here/a:/a", "/same:/b:ro", "volume:/c", "/d"]
    mounts = [
        {"Type": "bind", "Source": "/here", "Target": "/e"},
        {"Type": "bind", "Source": "/same", "Target": "/f", "BindOptions": {"CreateMountpoint": True}},
        {"Type": "volume", "Source": "/here", "Target": "/g"},
        {"Type": "tmpfs", "Target": "/other"},
    ]
    found = judged({**kept, "HostConfig": {**kept["HostConfig"], "Binds": binds, "Mounts": mounts}})
    assert found["HostConfig"].pop("Binds") == ["/there/a:/a", "/same:/b:ro", "volume:/c", "/d"]
    assert found["HostConfig"].pop("Mounts") == [{**mounts[0], "Source": "/there"}, *mounts[1:]]
    assert found == {**kept, "HostConfig": {"NanoCpus": 1234567890123456789}}
    own = [{"type": "bind", "source": "/here", "destination": "/a", "options": ["rbind"]}]
    assert judged({"mounts": own}, PODMAN) == {"mounts": [{**own[0], "source": "/there"}]}


WINDOWS = BindJudge(lambda path: {"C:\\here": "/c/here", "c:/x": "/c/x", "/c/x": "/c/x"}[path], "win32")


def test_folders_of_windows_become_the_guests():
    binds = ["C:\\here:/a:ro", "c:/x:/b", "/c/x:/c", "v:/d", "volume:/e", ".\\x:/f", "C:\\alone"]
    mounts = [{"Type": "bind", "Source": "C:\\here"}, {"Type": "npipe", "Source": "\\\\.\\pipe\\x"}]
    found = json.loads(WINDOWS.judge(DOCKER, json.dumps({"HostConfig": {"Binds": binds, "Mounts": mounts}}).encode()))
    assert found["HostConfig"] == {
        "Binds": ["/c/here:/a:ro", "/c/x:/b", *binds[2:]],
        "Mounts": [{"Type": "bind", "Source": "/c/here"}, mounts[1]],
    }


VOLUMES, SERVICES = ["", "v1.45", "volumes", "create"], ["", "v1.45", "services", "create"]


@pytest.mark.parametrize("options", [{"type": "none", "o": "rw,bind"}, {"o": "rbind"}, {"type": "bind"}])
@pytest.mark.parametrize("field", ["DriverOpts", "Options"])
def test_a_volume_that_is_a_folder(options, field):
    asked = {"Name": "x", field: {**options, "device": "/here/a"}}
    assert judged(asked, VOLUMES) == {"Name": "x", field: {**options, "device": "/there/a"}}


def with_volume(device):
    """As `--mount type=volume,src=x,volume-opt=o=bind,volume-opt=device=...` is sent."""
    options = {"type": "none", "o": "bind", "device": device}
    return [{"Type": "volume", "Source": "x", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": options}}}]


def test_a_volume_that_is_a_folder_and_is_made_with_its_container_or_service():
    assert judged({"HostConfig": {"Mounts": with_volume("/here/a")}}) == {
        "HostConfig": {"Mounts": with_volume("/there/a")}
    }
    task = {"TaskTemplate": {"ContainerSpec": {"Mounts": with_volume("/here/a")}}}
    assert judged(task, SERVICES) == {"TaskTemplate": {"ContainerSpec": {"Mounts": with_volume("/there/a")}}}
    both = {"HostConfig": {"Binds": ["/here:/b"], "Mounts": with_volume("/other")}}
    assert judged(both) == {"HostConfig": {"Binds": ["/there:/b"], "Mounts": with_volume("/other")}}
    assert judged({"HostConfig": {"Mounts": with_volume("/other")}}) == "as it was", "as a volume of its own"


@pytest.mark.parametrize("parts", [SERVICES, ["", "v1.45", "services", "x", "update"]])
def test_folders_of_a_service(parts):
    mounts = [{"Type": "bind", "Source": "/here"}, {"Type": "bind", "Source": "/other"}, {"Type": "volume"}]
    found = judged({"Name": "x", "TaskTemplate": {"ContainerSpec": {"Mounts": mounts}}}, parts)
    assert found["TaskTemplate"]["ContainerSpec"]["Mounts"] == [{"Type": "bind", "Source": "/there"}, *mounts[1:]]


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ({"DriverOpts": {"o": "bind", "device": "/other"}}, VOLUMES),
        ({"DriverOpts": {"type": "nfs", "o": "addr=1.2.3.4", "device": "/here"}}, VOLUMES),
        ({"DriverOpts": {"o": ["bind"], "type": {}, "device": "/here"}}, VOLUMES),
        ({"DriverOpts": None}, VOLUMES),
        ({"TaskTemplate": {"ContainerSpec": {"Mounts": [{"Type": "bind", "Source": "/other"}]}}}, SERVICES),
        ({"TaskTemplate": {"ContainerSpec": None}}, SERVICES),
        ({"HostConfig": {"Binds": ["/here:/a"]}}, SERVICES),
        ([], VOLUMES),
    ],
)
def test_what_a_volume_or_a_service_is_not_refused_for(asked, parts):
    assert judged(asked, parts) == "as it was"


@pytest.mark.parametrize(
    "asked",
    [
        {"HostConfig": {"Binds": ["volume:/a", "/other", "./other:/b", "~/other:/c", "C:\\other:/d"], "Mounts": None}},
        {"HostConfig": {"Binds": ["/same:/a"]}, "Volumes": {"/other": {}}},
        {"HostConfig": {"Mounts": [{"Type": "volume", "Source": "other", "Target": "/a"}, {"Type": "bind"}]}},
        {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "other"}, {"Type": "bind", "Source": 7}, None, "bind"]}},
        {"HostConfig": {"Binds": {"/other": "/a"}}},
        {"HostConfig": [], "mounts": "bind"},
        {"mounts": [{"type": "tmpfs", "source": "/other"}]},
        ["/other:/a"],
        None,
    ],
)
def test_what_is_none_stays_as_it_is(asked):
    assert judged(asked) == "as it was"


@pytest.mark.parametrize("body", [b"", b"{", b'{"HostConfig": {"Binds": ["/h', b"\xff\xfe{", b"[" * 100_000])
def test_what_is_no_json_the_engine_may_judge(body):
    assert JUDGE.judge(DOCKER, body) == body


def test_a_path_that_can_be_none_the_engine_may_judge():
    body = json.dumps({"HostConfig": {"Binds": ["/a\0b:/c"]}}).encode()
    assert BindJudge(lambda path: os.path.realpath(path, strict=True)).judge(DOCKER, body) == body


@pytest.mark.parametrize(
    ("asked", "parts", "facts"),
    [
        ({"HostConfig": {"Binds": ["/here:/a", "/other:/b"]}}, DOCKER, {"message": MESSAGE}),
        ({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/other"}]}}, DOCKER, {"message": MESSAGE}),
        (
            {"mounts": [{"type": "bind", "source": "/other"}]},
            PODMAN,
            {"cause": REFUSED.brief, "message": MESSAGE, "response": 400},
        ),
    ],
)
def test_one_that_is_not_shared_is_refused(asked, parts, facts):
    assert judged(asked, parts) == Refusal(facts)


class Engine(BaseHTTPRequestHandler):
    """Makes any container, and remembers its binds."""

    protocol_version = "HTTP/1.1"
    made: list[object]

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.made.append(asked["HostConfig"]["Binds"])
        body = b'{"Id": "0123", "Warnings": []}'
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

    def address_string(self):
        return "client"


class Rig:
    """An engine behind a docker.sock; `accepted` counts the connections to that."""

    def __init__(self, folder: str):
        self.made, self.accepted = [], 0
        self.path, self._inner = f"{folder}/docker.sock", f"{folder}/engine.sock"
        handler = type("Own", (Engine,), {"made": self.made})
        self._engine = socketserver.ThreadingUnixStreamServer(self._inner, handler)
        self._engine.daemon_threads = True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        for target in (lambda: self._engine.serve_forever(0.01), self._accept):
            threading.Thread(target=target, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                guest = socket.socket(socket.AF_UNIX)
                guest.connect(self._inner)
                words = (client, LocalStream(guest), None, ClientRequests(JUDGE))
                threading.Thread(target=relay, args=words, daemon=True).start()

    def close(self):
        self._engine.shutdown()
        self._engine.server_close()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def rig():
    with tempfile.TemporaryDirectory() as folder:
        made = Rig(folder)
        yield made
        made.close()


posix = pytest.mark.skipif(os.name == "nt", reason="its pipes are tested under Wine")


@posix
def test_the_sdk_tells_what_is_not_shared_and_goes_on_with_its_connection(rig):
    with contextlib.closing(docker.APIClient(f"unix://{rig.path}", version="1.45", timeout=20)) as client:

        def create(bind: str):
            return client.create_container("busybox", host_config=client.create_host_config(binds=[bind]))

        for _ in range(2):
            with pytest.raises(docker.errors.APIError) as caught:
                create("/other/x:/a")
            assert (caught.value.status_code, caught.value.explanation) == (400, MESSAGE)
            assert rig.made == []
            assert create("/here/x:/a")["Id"] == "0123"
            assert rig.made.pop() == ["/there/x:/a"]
    assert rig.accepted == 1


class Local(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("docker")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(path)


@posix
def test_a_client_that_sends_chunks_and_wants_its_connection_closed(rig):
    body = json.dumps({"HostConfig": {"Binds": ["/other:/a"]}}).encode()
    with contextlib.closing(Local(rig.path)) as connection:
        connection.request("POST", "/containers/create", iter([body[:9], body[9:]]), {"Connection": "close"})
        answer = connection.getresponse()
        assert (answer.status, answer.reason, answer.getheader("Content-Type")) == (
            400,
            "Bad Request",
            "application/json",
        )
        assert (json.loads(answer.read()), answer.getheader("Connection")) == ({"message": MESSAGE}, "close")
    with contextlib.closing(Local(rig.path)) as connection:
        connection.sock.sendall(b"POST /containers/create HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        told = b""
        while more := connection.sock.recv(65536):
            told += more
        assert told.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert rig.made == []
