"""Docker clients of this computer, real ones, on a machine's engine: contexts, API streams, SDKs, test frameworks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from docker.errors import APIError
from docker.types import Mount
from machines import eventually, hostvm, run, succeed

pytestmark = pytest.mark.vm

# Perl is in every Debian image. It asks a Unix socket and reads until the answer holds what is looked for.
_TALK = (
    '$s = IO::Socket::UNIX->new("%s") or die $!; $s->syswrite("%s"); '
    "$a .= $x while $a !~ /%s/ && $s->sysread($x, 65536); print $a"
)


def context_of(machine) -> str:
    return "hostvm" if machine.name == "default" else f"hostvm-{machine.name}"


def test_a_machine_is_a_docker_context(machine, client_program):
    context = context_of(machine)
    listed = succeed(run(client_program, "context", "ls", "--format", "{{.Name}} {{.DockerEndpoint}}"))
    assert f"{context} {machine.docker_host}" in listed.splitlines()
    shown = run(client_program, "--context", context, "info", "--format", "{{.KernelVersion}}")
    assert succeed(shown) == machine.shell("uname", "-r")
    used = succeed(run(client_program, "context", "ls", "--format", "{{.Name}} {{.Current}}")).splitlines()
    assert "default true" in used, "the one in use is not taken without asking"


def test_the_context_in_use_is_taken_when_asked_and_given_back(machine, client_program, unique):
    name = unique("ctx")
    succeed(hostvm("create", name, "--memory", "512MiB"))
    try:
        succeed(hostvm("start", machine.name, "--use-context"))
        assert succeed(run(client_program, "info", "--format", "{{.KernelVersion}}")) == machine.shell("uname", "-r")
        told = hostvm("start", machine.name, "--use-context", env={"DOCKER_HOST": "unix:///elsewhere.sock"})
        assert (told.status, "DOCKER_HOST is set here and goes before any context" in told.err) == (0, True), str(told)
        succeed(hostvm("context", "use", name))
        listed = {one["machine"]: one for one in json.loads(succeed(hostvm("context", "ls", "--json")))}
        assert (listed[name]["current"], listed[machine.name]["current"]) == (True, False)
    finally:
        succeed(hostvm("rm", "--force", name))
    names = succeed(run(client_program, "context", "ls", "--format", "{{.Name}} {{.Current}}")).splitlines()
    assert f"hostvm-{name} true" not in names
    assert f"{context_of(machine)} true" in names
    succeed(run(client_program, "context", "use", "default"))


def test_a_launcher_is_a_docker_client(machine, tmp_path, client_program):
    words = ["shim", "install", machine.name, "--dir", str(tmp_path)]
    path = os.pathsep.join(["/usr/bin", "/bin"])
    if shutil.which("docker", path=path) is None:
        succeed(hostvm(*words, env={"PATH": path}))
    succeed(hostvm(*words, "--force"))
    env = {"PATH": f"{tmp_path}{os.pathsep}{path}", "HOSTVM_CLIENT": "auto"}
    assert succeed(run("sh", "-c", "docker info --format '{{.KernelVersion}}'", env=env)) == machine.shell(
        "uname", "-r"
    )
    assert run("sh", "-c", "docker run --rm busybox sh -c 'echo out; echo err >&2; exit 5'", env=env).status == 5
    assert succeed(run("docker-compose", "version", "--short", env=env)).startswith(("2.", "v2."))
    # The launcher first on PATH and a native client behind it: the native one is used, the launcher never meets itself.
    env["PATH"] = os.pathsep.join([str(tmp_path), str(Path(client_program).parent), path])
    shown = succeed(run("docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}}", env=env)).split()
    assert shown[0] == succeed(run(client_program, "--version")).split()[2].rstrip(",")
    assert shown[1] == machine.docker("version", "--format", "{{.Server.Version}}")
    succeed(hostvm("shim", "rm", "--dir", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_the_systems_socket_is_a_link_to_the_machines(machine, tmp_path, client_program):
    link = tmp_path / "docker.sock"
    bins = str(tmp_path / "bin")
    succeed(hostvm("shim", "install", machine.name, "--dir", bins, "--socket", str(link), "--yes"))
    shown = succeed(run(client_program, "-H", f"unix://{link}", "info", "--format", "{{.KernelVersion}}"))
    assert shown == machine.shell("uname", "-r")
    succeed(hostvm("shim", "rm", "--dir", bins, "--socket", str(link)))
    assert not link.is_symlink()


def test_compose_of_this_computer(box, current_client, tmp_path, unique):
    docker, env = current_client
    (tmp_path / "compose.yaml").write_text(
        "services:\n"
        "  web: {image: busybox, command: httpd -f -p 80 -h /etc, init: true}\n"
        "  ask: {image: busybox, command: sleep 60, init: true, depends_on: [web]}\n"
    )
    compose = [docker, "compose", "-p", unique("project"), "-f", str(tmp_path / "compose.yaml")]
    succeed(run(*compose, "up", "-d", env=env))
    assert succeed(run(*compose, "exec", "-T", "ask", "wget", "-qO-", "http://web/hostname", env=env))
    assert sorted(succeed(run(*compose, "ps", "--services", env=env)).split()) == ["ask", "web"]
    succeed(run(*compose, "down", "-t", "0", env=env))
    assert succeed(run(*compose, "ps", "-aq", env=env)) == ""


def test_compose_and_a_client_are_told_which_folder_is_not_shared(
    box, current_client, shared_folders, tmp_path, unique
):
    docker, env = current_client
    (tmp_path / "data").mkdir()
    (tmp_path / "compose.yaml").write_text(
        "services:\n  web: {image: busybox, command: sleep 60, init: true, volumes: ['./data:/data']}\n"
    )
    words = [docker, "compose", "-p", unique("project")]
    refused = run(*words, "-f", str(tmp_path / "compose.yaml"), "up", "-d", env=env)
    assert refused.status != 0, str(refused)
    assert f"{tmp_path}/data is not shared with the machine" in refused.both
    assert f"hostvm mount add {tmp_path}/data -m {box.name}" in refused.both
    assert succeed(run(*words, "-f", str(tmp_path / "compose.yaml"), "ps", "-aq", env=env)) == ""
    succeed(run(*words, "-f", str(tmp_path / "compose.yaml"), "down", "-t", "0", env=env))
    done = run(docker, "run", "--rm", "--mount", f"type=bind,src={tmp_path},dst=/w", "busybox", "true", env=env)
    assert (done.status, f"hostvm mount add {tmp_path} -m {box.name}\n" in done.err) == (125, True), str(done)
    # The same project in a folder that is shared.
    folder = shared_folders["nfs"] / unique("project")
    shutil.copytree(tmp_path, folder)
    (folder / "data" / "word").write_text("from here")
    words = [docker, "compose", "-p", unique("project"), "-f", str(folder / "compose.yaml")]
    succeed(run(*words, "up", "-d", env=env))
    assert succeed(run(*words, "exec", "-T", "web", "cat", "/data/word", env=env)) == "from here"
    succeed(run(*words, "down", "-t", "0", env=env))
    shutil.rmtree(folder)


@pytest.fixture
def ssh_agent(tmp_path):
    """An ssh-agent of this computer with one key called `forwarded-key`."""
    sock = tmp_path / "agent.sock"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL) as agent:
        eventually(sock.exists, "ssh-agent listens")
        key = str(tmp_path / "key")
        succeed(run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "forwarded-key", "-f", key))
        succeed(run("ssh-add", "-q", key, env={"SSH_AUTH_SOCK": str(sock)}))
        yield str(sock)
        agent.terminate()


def test_buildx_with_cache_secret_and_ssh(box, current_client, ssh_agent, tmp_path, unique):
    docker, env = current_client
    tag = unique("built")
    talk = _TALK % ('".$ENV{SSH_AUTH_SOCK}."', r"\0\0\0\1\13", "forwarded-key")
    (tmp_path / "secret").write_text("hush")
    (tmp_path / "Dockerfile").write_text(
        "FROM debian:trixie\n"
        "RUN --mount=type=cache,target=/kept echo one > /kept/log\n"
        "RUN --mount=type=cache,target=/kept cp /kept/log /log\n"
        "RUN --mount=type=secret,id=word wc -c < /run/secrets/word > /length\n"
        # What an ssh client asks its agent first: which keys there are.
        f"RUN --mount=type=ssh perl -MIO::Socket::UNIX -e '{talk}' > /keys\n"
    )
    words = ["--secret", f"id=word,src={tmp_path}/secret", "--ssh", f"default={ssh_agent}"]
    succeed(run(docker, "buildx", "build", *words, "-t", tag, str(tmp_path), env=env))
    shown = succeed(run(docker, "run", "--rm", tag, "sh", "-c", "cat /log /length; tr -cd a-z- < /keys", env=env))
    assert shown.split()[:2] == ["one", "4"]
    assert "forwarded-key" in shown


def test_files_through_docker_cp(box, current_client, residents, tmp_path):
    docker, env = current_client
    data = os.urandom(1 << 20) * 24
    (tmp_path / "sent").write_bytes(data)
    (tmp_path / "sent").chmod(0o750)
    there = residents["busybox"]
    succeed(run(docker, "cp", str(tmp_path / "sent"), f"{there}:/tmp/sent", env=env))
    succeed(run(docker, "cp", f"{there}:/tmp/sent", str(tmp_path / "back"), env=env))
    box.docker("exec", there, "rm", "/tmp/sent")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == hashlib.sha256(data).digest()
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o750


@pytest.mark.slow
def test_a_gibibyte_through_docker_cp(box, current_client, unique, tmp_path):
    docker, env = current_client
    name, size = unique("large"), 1 << 30
    sent, back = tmp_path / "sent", tmp_path / "back"
    with sent.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    box.docker("create", "--name", name, "busybox", "true")
    succeed(run(docker, "cp", str(sent), f"{name}:/large", env=env, limit=600))
    succeed(run(docker, "cp", f"{name}:/large", str(back), env=env, limit=600))
    assert back.stat().st_size == size
    assert digest_of(back) == digest_of(sent)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stream_that_is_silent_for_ten_minutes_goes_on(box, unique):
    """As of a shell that is left open over lunch."""
    container = box.sdk.containers.create("busybox", ["cat"], stdin_open=True, name=unique("silent"))
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    time.sleep(600)
    attached._sock.sendall(b"still here\n")
    attached._sock.shutdown(socket.SHUT_WR)
    assert demultiplexed(attached._sock) == b"still here\n"
    attached.close()


def test_a_hijacked_stream_ends_in_one_direction_first(box, residents):
    api = box.sdk.api
    made = api.exec_create(residents["busybox"], ["sh", "-c", "wc -c; sleep 0.2; echo late"], stdin=True)
    stream = api.exec_start(made["Id"], socket=True)
    sock = stream._sock
    sock.sendall(b"x" * 3_000_000)
    sock.shutdown(socket.SHUT_WR)
    frames = demultiplexed(sock)
    stream.close()
    assert frames == b"3000000\nlate\n"
    assert api.exec_inspect(made["Id"])["ExitCode"] == 0


def demultiplexed(sock) -> bytes:
    """The payloads of docker's framed streams until the end."""
    raw, found = b"", b""
    while more := sock.recv(65536):
        raw += more
    while raw:
        size = int.from_bytes(raw[4:8], "big")
        found, raw = found + raw[8 : 8 + size], raw[8 + size :]
    return found


def test_attach_logs_and_events_follow(box, unique):
    name = unique("talk")
    began = int(time.time()) - 5
    container = box.sdk.containers.create("busybox", ["sh", "-c", "read x; echo got $x"], stdin_open=True, name=name)
    events = box.sdk.events(since=began, decode=True, filters={"container": name})
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    followed = container.logs(stream=True, follow=True)
    attached._sock.sendall(b"word\n")
    assert b"".join(followed) == b"got word\n"
    assert b"got word" in demultiplexed(attached._sock)
    attached.close()
    seen = []
    for event in events:
        seen.append(event["Action"])
        if event["Action"] == "die":
            break
    events.close()
    assert {"create", "attach", "start", "die"} <= set(seen)


BOTH = [
    lambda folder: {"volumes": {str(folder): {"bind": "/w", "mode": "rw"}}},
    lambda folder: {"mounts": [Mount("/w", str(folder), type="bind")]},
]


@pytest.mark.parametrize("asked", BOTH, ids=["Binds", "Mounts"])
def test_the_sdk_is_told_which_folder_is_not_shared(box, tmp_path, unique, asked):
    name, place = unique("never"), f"/{unique('elsewhere')}"
    (tmp_path / "word").write_text("from here")
    with pytest.raises(APIError) as caught:
        box.sdk.containers.create("busybox", ["true"], name=name, **asked(tmp_path))
    assert caught.value.status_code == 400
    assert f"{tmp_path} is not shared with the machine" in caught.value.explanation
    assert f"hostvm mount add {tmp_path} -m {box.name}\n" in caught.value.explanation
    assert name not in [one.name for one in box.sdk.containers.list(all=True)]
    assert box.shell("sh", "-c", 'test -e "$0" || echo none', str(tmp_path)) == "none", "nothing was made in the guest"
    for shared in (str(tmp_path), f"{tmp_path}:{place}"):
        box.hostvm("mount", "add", shared)
        try:
            words = ["cat", "/w/word"]
            assert box.sdk.containers.run("busybox", words, remove=True, **asked(tmp_path)) == b"from here"
            if place in shared:  # the guest's own name of it
                assert box.sdk.containers.run("busybox", words, remove=True, **asked(place)) == b"from here"
                options = {"type": "none", "o": "bind", "device": str(tmp_path)}
                volume = box.sdk.volumes.create(unique("folder"), driver="local", driver_opts=options)
                binds = [f"{volume.name}:/w"]
                assert box.sdk.containers.run("busybox", words, remove=True, volumes=binds) == b"from here"
                volume.remove()
        finally:
            box.hostvm("mount", "rm", str(tmp_path))


def test_the_guests_own_folders_and_volumes_are_the_sdks_as_before(box, unique):
    own = ["/:/h:ro", "/proc:/p:ro", "/lib/modules:/m:ro", "/var/lib/docker:/d:ro", "/dev:/v"]
    times = ["/etc/localtime:/etc/localtime:ro", "/etc/timezone:/etc/timezone:ro"]  # as half of all compose files have
    binds = [*own, *times, "//var/run/docker.sock:/s", f"{unique('kept')}:/k"]
    look = "test -d /h/proc && test -e /p/1 && test -d /d/containers && test -c /v/null && test -S /s && echo all"
    told = box.sdk.containers.run("busybox", ["sh", "-c", look], remove=True, volumes=binds, tmpfs={"/x": ""})
    assert told == b"all\n"
    times = [word for one in times for word in ("-v", one)]
    assert box.docker("run", "--rm", *times, "busybox", "sh", "-c", "date +%Z; cat /etc/timezone") == "UTC\nEtc/UTC"


def test_an_engine_in_a_container_is_asked_for_what_it_has(box, residents):
    """Its requests travel in a stream of ours, and are none of ours."""
    asked = (
        b"POST /containers/create HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + b'{"HostConfig":{"Binds":["/nowhere:/a"]}}'
    )
    made = box.sdk.api.exec_create(residents["busybox"], ["head", "-c", str(len(asked))], stdin=True)
    stream = box.sdk.api.exec_start(made["Id"], socket=True)
    stream._sock.sendall(asked)
    frames = demultiplexed(stream._sock)
    stream.close()
    assert frames == asked


def test_a_hundred_requests_at_once(box):
    def ask(_):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(120)
            sock.connect(box.docker_host.removeprefix("unix://"))
            sock.sendall(b"GET /containers/json HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            answer = b""
            while more := sock.recv(65536):
                answer += more
            return answer.split(b" ")[1]

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(ask, range(100))) == {b"200"}


def test_the_engines_socket_in_a_container_is_the_guests(box):
    talk = _TALK % ("/var/run/docker.sock", r"GET /version HTTP/1.0\r\n\r\n", "KernelVersion.+,")
    words = ["perl", "-MIO::Socket::UNIX", "-e", talk]
    wanted = f'"KernelVersion":"{box.shell("uname", "-r")}"'
    assert wanted in box.docker(
        "run", "--rm", "-v", "/var/run/docker.sock:/var/run/docker.sock", "debian:trixie", *words
    )
    # Also by the name that it has on this computer, as testcontainers gives it to its helper.
    mount = f"{box.docker_host.removeprefix('unix://')}:/var/run/docker.sock"
    assert wanted.encode() in box.sdk.containers.run("debian:trixie", words, remove=True, volumes=[mount])


def test_testcontainers(box, current_client, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", box.docker_host)
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    testcontainers_config.ryuk_disabled = True
    made = DockerContainer("busybox").with_command("httpd -f -v -p 80 -h /etc").with_exposed_ports(80)
    with made as container:
        # Not get_container_host_ip(): where the tests themselves run in a container it guesses that one's gateway.
        url = f"http://127.0.0.1:{container.get_exposed_port(80)}/hostname"
        answer = eventually(lambda: fetched(url), f"{url} answers", 60)
        assert answer == container.get_wrapped_container().id[:12]
        assert container.exec(["echo", "inside"]).output == b"inside\n"


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode().strip()
    except OSError:
        return ""
