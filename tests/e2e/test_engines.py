"""The same acceptance tests for every engine; docker's are in `make test-slow`, as all other tests have it.

What an engine cannot do stands in the table of docs/engines.md. A test looks it up: where the table says no, the words
that would do it must be refused with what the engine has instead; limits are taken by rootless engines, and do nothing.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
import urllib.request

import docker
import pytest
from engine_rig import BUSYBOX, TABLE, Rig  # helpers beside this file
from machines import HOSTVM, eventually, folders_of, hostvm, run, succeed

from hostvm.accel import host_arch

SHARE = "cat /w/word && mkdir /w/made && echo kept > /w/made/there"


@pytest.fixture
def server_here():
    """A server on this computer's loopback."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_container_runs_with_its_status_and_input(rig):
    assert rig.can("run, exit status, input")
    assert succeed(rig.run("echo", "hi")) == "hi"
    assert rig.run("sh", "-c", "exit 7").status == 7
    # ctr does not pass on that the input has ended: nothing may wait for that.
    assert succeed(rig.run("head", "-c", "5", stdin="typed")) == "typed"


def test_facts_of_the_engine(rig):
    facts = eventually(lambda: (now := rig.facts())["agent"]["services"]["engine"]["version"] and now, "its version")
    assert facts["engine"] == rig.engine
    assert rig.engine in rig.ok("status")
    if rig.can("Docker's API on this computer", "env"):
        client = docker.DockerClient(base_url=facts["docker_host"], timeout=60)
        assert client.ping()
        own = BUSYBOX if rig.engine == "podman" else "busybox:latest"
        assert [image.tags for image in client.images.list()] == [[own]]
        client.close()
    else:
        assert facts["docker_host"] == ""
        assert not (folders_of(rig.name)[1] / "docker.sock").exists()


def test_an_image_that_goes_through_a_pipe_as_an_oci_layout(rig):
    """Into a reader that is not hostvm's: no manifest.json of docker's is in it, but for docker."""
    line = 'set -o pipefail; "$0" image base busybox --tag taken:1 --format "$2" -o - | "$0" -m "$1" "${@:3}"'
    form = "docker" if rig.engine == "docker" else "oci"
    load = ("ctr", "images", "import", "-") if rig.engine == "containerd" else (rig.engine, "load")
    name = "docker.io/library/taken:1"
    try:
        told = succeed(run("bash", "-c", line, str(HOSTVM), rig.name, form, *load, limit=120))
        if rig.engine == "containerd":
            assert name in rig.ok("ctr", "images", "ls", "-q").split()
            assert rig.ok("ctr", "run", "--rm", name, "taken", "echo", "hi") == "hi"
        else:
            assert "taken:1" in told
            assert rig.ok(rig.engine, "run", "--rm", "taken:1", "echo", "hi") == "hi"
            label = '{{index .Config.Labels "org.opencontainers.image.ref.name"}}'
            assert rig.ok(rig.engine, "image", "inspect", "-f", label, name) == "taken:1"
    finally:
        rig.words(*(("ctr", "images", "rm", name) if rig.engine == "containerd" else (rig.engine, "rmi", "-f", name)))


def test_a_docker_client_of_this_computer(rig, host_client):
    if rig.can("Docker's API on this computer", "docker", "ps"):
        words = ("-m", rig.name, "docker", "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 3")
        done = hostvm(*words, stdin="typed here", env=host_client)
        assert (done.status, done.out) == (3, "typed here"), str(done)


def test_launchers_are_those_of_its_engine(rig, tmp_path):
    programs = {
        "docker": ["docker", "docker-compose"],
        "podman": ["docker", "docker-compose", "podman"],
        "containerd": ["nerdctl"],
    }[rig.engine]
    rig.ok("shim", "install", rig.name, "--force", "--dir", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == programs
    env = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOSTVM_CLIENT": "guest"}
    if rig.engine == "podman":
        assert succeed(run("podman", "info", "--format", "{{.Host.Kernel}}", env=env)) == rig.ok(
            "shell", "--", "uname", "-r"
        )
        assert run("podman", "run", "--rm", "busybox", "sh", "-c", "exit 6", env=env).status == 6
    rig.ok("shim", "rm", "--dir", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_words_that_it_has_and_has_not(rig):
    others = {
        "docker": ("ctr", "podman"),
        "podman": ("ctr", "nerdctl"),
        "containerd": ("docker", "compose", "podman"),
    }[rig.engine]
    for word in others:
        refused = rig.words(word, "version")
        assert (refused.status, refused.out) == (125, "")
        assert f"its engine is {rig.engine}" in refused.err
    if rig.engine == "containerd":
        refused = rig.words("nerdctl", "ps")
        assert (refused.status, "docs/engines.md has the recipe" in refused.err) == (125, True), str(refused)
    own = {"docker": ("docker",), "podman": ("podman", "docker"), "containerd": ("ctr",)}[rig.engine]
    assert all("Version" in rig.ok(word, "version") for word in own)


def test_whose_rights_it_and_its_containers_have(rig):
    daemon = {"docker": "dockerd", "podman": "podman", "containerd": "containerd"}[rig.engine]
    look = "for pid in $(pidof {}); do stat -c %u /proc/$pid; done | sort -u"
    own = "1000" if rig.rootless else "0"
    assert rig.ok("shell", "--", "sh", "-c", look.format(daemon)) == own
    if rig.can("Docker's API on this computer", "env"):
        # Typed in the guest: a folder of this computer is not meant.
        words = ("--name", "whose", "-v", "/etc:/guests:ro", "busybox", "tail", "-f", "/dev/null")
        rig.ok("shell", "--", "docker", "run", "-d", *words)
        assert rig.ok("docker", "exec", "whose", "id", "-u") == "0"
        assert rig.ok("shell", "--", "sh", "-c", look.format("tail")) == own
        # Root of a container with the guest's folders is root of the guest, or nobody in particular.
        secret = rig.words("docker", "exec", "whose", "cat", "/guests/shadow")
        assert (secret.status, "Permission denied" in secret.err) == ((1, True) if rig.rootless else (0, False))
        rig.remove("whose")


def test_rootless_is_decided_when_a_machine_is_made(rig):
    refused = rig.words("set", f"rootless={str(not rig.rootless).lower()}")
    assert refused.status == 2
    assert "rootless: is decided when a machine is made" in refused.err
    if rig.rootless:
        refused = rig.words("upgrade", "--image", rig.engine)
        assert refused.status == 1
        assert f"image {rig.engine} holds an engine with root's rights" in refused.err
        assert f"take the image {rig.kind}" in refused.err


def test_a_limit_of_memory(rig):
    if rig.engine == "containerd":  # in ctr's containers there is no cgroup file system: seen from the guest
        rig.ok("ctr", "run", "-d", "--memory-limit", "67108864", BUSYBOX, "limited", "sleep", "600")
        limit = rig.ok("shell", "--", "cat", "/sys/fs/cgroup/default/limited/memory.max")
        rig.ok("ctr", "tasks", "rm", "--force", "limited")
        rig.ok("ctr", "containers", "rm", "limited")
    else:
        look = "cat /sys/fs/cgroup/memory.max 2>/dev/null || true"
        limit = rig.ok("docker", "run", "--rm", "--memory", "64m", "busybox", "sh", "-c", look)
    if TABLE["limits of memory, processors, processes"][rig.kind].startswith("yes"):
        assert limit == "67108864"
    else:  # the engine takes the word and does nothing
        assert limit in ("max", "")


def test_a_docker_client_is_told_which_folder_is_not_shared(rig, tmp_path):
    if rig.can("Docker's API on this computer", "env"):
        client = docker.DockerClient(base_url=rig.facts()["docker_host"], timeout=60)
        with pytest.raises(docker.errors.APIError, match=f"hostvm mount add {tmp_path} -m {rig.name}"):
            client.containers.create("busybox", ["true"], name="never", volumes=[f"{tmp_path}:/w"])
        assert "never" not in [one.name for one in client.containers.list(all=True)]
        client.close()


def test_a_shared_folder(rig, tmp_path):
    if rig.can("shared folders", "docker", "ps"):
        (tmp_path / "word").write_text("from here")
        rig.ok("mount", "add", str(tmp_path))
        if rig.engine == "containerd":
            how = f"type=bind,src={tmp_path},dst=/w,options=rbind:rw"
            told = rig.ok("ctr", "run", "--rm", "--mount", how, BUSYBOX, "shared", "sh", "-c", SHARE)
        else:
            told = rig.ok("docker", "run", "--rm", "-v", f"{tmp_path}:/w", "busybox", "sh", "-c", SHARE)
        assert told == "from here"
        assert (tmp_path / "made" / "there").read_text() == "kept\n"
        assert (tmp_path / "made" / "there").stat().st_uid == os.getuid()
        rig.ok("mount", "rm", str(tmp_path))


def test_a_server_of_this_computer(rig, server_here):
    if rig.can("host.docker.internal", "docker", "ps"):
        name, ask = "host.docker.internal", ("wget", "-q", "-O", "-")
        words = ("--rm", "--add-host", f"{name}:host-gateway", "busybox", *ask, f"http://{name}:{server_here}/")
        assert rig.ok("docker", "run", *words) == "here"


def test_build(rig, tmp_path):
    if rig.can("build", "docker", "build", str(tmp_path)):
        (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY word /word\nRUN cat /word /word > /twice\n")
        (tmp_path / "word").write_text("again")
        rig.ok("docker", "build", "-t", "built", str(tmp_path))
        assert rig.ok("docker", "run", "--rm", "built", "cat", "/twice") == "againagain"


def test_volume(rig):
    if rig.can("volumes by name", "docker", "volume", "ls"):
        rig.ok("docker", "run", "--rm", "-v", "kept:/v", "busybox", "sh", "-c", "echo data > /v/file")
        assert rig.ok("docker", "run", "--rm", "-v", "kept:/v", "busybox", "cat", "/v/file") == "data"
        # One letter is a name too, not a drive. Docker's own client takes it for one, and dockerd wants two.
        letter = rig.words("docker", "run", "--rm", "-v", "v:/v", "busybox", "sh", "-c", "echo data > /v/file; ls /v")
        if rig.engine == "podman":
            assert succeed(letter) == "file"
            assert "v" in rig.ok("docker", "volume", "ls", "-q").split()
            rig.ok("docker", "volume", "rm", "v")
        else:
            assert (letter.status, "ls: /v: No such file" in letter.err) == (1, True), "a volume at /v:/v, as on Linux"
            refused = rig.words("docker", "run", "--rm", "-v", "v:/v:rw", "busybox", "true")
            assert (refused.status, "at least two alphanumeric" in refused.err) == (125, True), str(refused)


def test_published_port_is_reached_from_here(rig, free_port):
    if rig.can("published ports", "docker", "ps"):
        serve = "mkdir /w && echo served > /w/index.html && exec httpd -f -p 80 -h /w"
        rig.ok("docker", "run", "-d", "--name", "web", "-p", f"{free_port}:80", "busybox", "sh", "-c", serve)

        def look() -> bytes:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/", timeout=10) as answer:
                    return answer.read()
            except OSError:
                return b""

        assert eventually(look, "the container answers") == b"served\n"
        assert "web" in rig.ok("port", "ls")
        rig.remove("web")
        eventually(lambda: "web" not in rig.ok("port", "ls"), "the port is closed")


def test_containers_find_each_other_by_name(rig):
    if rig.can("networks, names of containers in them", "docker", "network", "ls"):
        rig.ok("docker", "network", "create", "net")
        serve = "mkdir /w && echo found > /w/index.html && exec httpd -f -p 80 -h /w"
        rig.ok("docker", "run", "-d", "--name", "there", "--network", "net", "busybox", "sh", "-c", serve)
        ask = "until wget -q -O - http://there/; do sleep 0.1; done"
        assert rig.ok("docker", "run", "--rm", "--network", "net", "busybox", "sh", "-c", ask) == "found"
        rig.remove("there")


def compose(rig, *words: str, stdin: str | None = None) -> None:
    """Once more where Podman's own service has broken down meanwhile: docs/limitations.md."""
    before = breakdowns(rig)
    done = rig.words("compose", *words, stdin=stdin)
    if rig.engine == "podman" and done.status != 0 and breakdowns(rig) > before:
        eventually(lambda: rig.words("docker", "ps", "-q").status == 0, "it answers again", 60.0)
        done = rig.words("compose", *words, stdin=stdin)
    succeed(done)


def breakdowns(rig) -> int:
    """How often its reader of events has ended the service."""
    return (
        rig.ok("logs", "--engine", "-n", "5000").count("libpod/events.EventLogFile.Read.func")
        if rig.engine == "podman"
        else 0
    )


def compose_down(rig, project: str) -> None:
    compose(rig, "-p", project, "down")
    assert rig.ok("docker", "ps", "-a", "-q", "--filter", f"label=com.docker.compose.project={project}") == ""


def test_compose(rig):
    if rig.can("compose", "compose", "ls"):
        service = {"image": "busybox", "command": "sleep 1000", "stop_grace_period": "0s"}
        project = json.dumps({"name": "small", "services": {"one": service}})
        compose(rig, "-f", "-", "up", "-d", stdin=project)
        assert rig.ok("docker", "ps", "--format", "{{.Names}}").split() == ["small-one-1"]
        compose_down(rig, "small")


def test_compose_waits_until_a_service_is_healthy(rig):
    if rig.can("compose", "compose", "ls"):
        service = {"image": "busybox", "command": "sleep 1000", "stop_grace_period": "0s"}
        first = {**service, "healthcheck": {"test": ["CMD", "true"], "interval": "1s"}}
        then = {**service, "depends_on": {"first": {"condition": "service_healthy"}}}
        project = json.dumps({"name": "healthy", "services": {"first": first, "then": then}})
        compose(rig, "-f", "-", "up", "-d", stdin=project)
        health = ("docker", "inspect", "-f", "{{.State.Health.Status}}", "healthy-first-1")
        assert rig.ok(*health) == "healthy"
        compose_down(rig, "healthy")


def test_its_engine_stays(rig):
    other, another = [engine for engine in ("docker", "podman", "containerd") if engine != rig.engine]
    for refused, status in (
        (rig.words("set", f"engine={other}"), 2),  # a wrong setting, as others are
        (hostvm("start", rig.name, "--engine", another), 1),
    ):
        assert refused.status == status, str(refused)
        assert "hostvm start NEW --engine" in refused.err
        assert "docker load" in refused.err or "docker save" in refused.err


@pytest.mark.slow
def test_a_killed_engine_leaves_no_container_running_twice(rig):
    if rig.can("Docker's API on this computer", "env"):
        rig.ok("docker", "run", "-d", "--name", "only", "--restart", "always", "busybox", "sleep", "4242")
        daemon = {"docker": "dockerd", "podman": "podman"}[rig.engine]
        rig.ok("shell", "--", "sh", "-c", f"kill -9 $(pidof {daemon}); sleep 1")
        eventually(lambda: rig.words("docker", "ps", "-q").status == 0, "it answers again", 60.0)
        count = ("shell", "--", "pgrep", "-xfc", "sleep 4242")
        eventually(lambda: rig.words(*count).out.strip() == "1", "it runs once", 60.0)
        rig.remove("only")
        assert rig.words(*count).out.strip() == "0"


@pytest.mark.slow
def test_it_sleeps_and_a_clone_of_it_goes_its_own_way(rig):
    start, listed = ("docker", "run", "-d", "--name"), ("docker", "ps", "--format", "{{.Names}}")
    if rig.engine == "containerd":
        rig.ok("ctr", "run", "-d", BUSYBOX, "awake", "sleep", "1000")
        listed = ("ctr", "tasks", "ls", "-q")
    else:
        rig.ok(*start, "awake", "busybox", "sleep", "1000")
    rig.ok("suspend")
    clone = Rig(f"{rig.name}-c", rig.kind)
    try:
        succeed(hostvm("clone", rig.name, clone.name))
        assert rig.ok(*listed).split() == ["awake"], "the next command wakes it, and nothing was lost"
        clone.ok("start", clone.name)
        images = ("ctr", "images", "ls", "-q") if rig.engine == "containerd" else ("docker", "images", "-q")
        assert clone.ok(*images) == rig.ok(*images)
        if rig.engine != "containerd":
            clone.ok(*start, "own", "busybox", "sleep", "1000")
            assert "own" not in rig.ok(*listed)
            clone.remove("own")
    finally:
        removed = hostvm("rm", "--force", clone.name)
    succeed(removed)
    if rig.engine == "containerd":
        rig.ok("ctr", "tasks", "rm", "--force", "awake")
        rig.ok("ctr", "containers", "rm", "awake")
    else:
        rig.remove("awake")


@pytest.mark.slow
def test_the_room_of_a_removed_image_comes_back_by_itself(rig):
    def tidied() -> dict:
        return rig.facts()["agent"]["services"]["tidy"]

    def disk() -> int:
        return (folders_of(rig.name)[0] / "data.qcow2").stat().st_blocks * 512

    eventually(lambda: "trim" in tidied(), "the trim after the start", 120)
    if rig.engine != "containerd":  # it tells of nothing
        before, size = disk(), 60_000_000
        load = (
            f"cd /dev/shm; yes hostvm | head -c {size} > large; tar -c large | docker import - large:1; rm large; sync"
        )
        rig.ok("shell", "--", "sh", "-c", load)
        assert disk() - before > size * 0.9
        rig.ok("docker", "rmi", "large:1")
        eventually(lambda: disk() - before < size * 0.1, "its room is free here", 60)


@pytest.mark.slow
def test_what_runs_keeps_one_awake_that_sleeps_when_idle(rig):
    if rig.engine == "containerd":
        rig.ok("ctr", "run", "-d", BUSYBOX, "busy", "sleep", "30")
    else:
        rig.ok("docker", "run", "-d", "--name", "busy", "busybox", "sleep", "30")
    rig.ok("set", "idle={after: 1s, action: suspend}")
    look = ("status", "--json")
    asleep = '"status": "suspended"'
    eventually(lambda: asleep in rig.words(*look).out, "it sleeps when nothing runs any more", 120)
    rig.ok("set", "idle=")
    # Time stands still while it sleeps: had it slept before, the 30 s would not be over.
    if rig.engine == "containerd":
        assert "STOPPED" in rig.ok("ctr", "tasks", "ls")
        rig.ok("ctr", "tasks", "rm", "busy")
        rig.ok("ctr", "containers", "rm", "busy")
    else:
        assert rig.ok("docker", "inspect", "-f", "{{.State.Status}}", "busy") == "exited"
        rig.remove("busy")


def test_a_restart_keeps_images_and_containers(rig):
    if rig.engine == "containerd":
        rig.ok("ctr", "run", "-d", BUSYBOX, "stays", "sleep", "1000")
    else:
        rig.ok("docker", "run", "-d", "--name", "stays", "busybox", "sleep", "1000")
        rig.ok("docker", "run", "-d", "--name", "returns", "--restart", "unless-stopped", "busybox", "sleep", "1000")
        rig.ok("docker", "run", "-d", "--name", "ended", "--restart", "unless-stopped", "busybox", "sleep", "1000")
        rig.ok("docker", "stop", "-t", "0", "ended")
    rig.ok("restart")
    if rig.engine == "containerd":
        assert "stays" in rig.ok("ctr", "containers", "ls", "-q").split()
        assert BUSYBOX in rig.ok("ctr", "images", "ls", "-q").split()
    else:
        assert {"stays", "returns", "ended"} <= set(rig.ok("docker", "ps", "-a", "--format", "{{.Names}}").split())
        assert "busybox" in rig.ok("docker", "images")
    if rig.can("containers start again with the machine", "docker", "ps"):
        names = ["docker", "ps", "--format", "{{.Names}}"]
        eventually(lambda: rig.ok(*names).split() == ["returns"], "the one that is to runs", 60.0)


@pytest.mark.slow
def test_a_docker_client_runs_a_container_of_another_architecture(rig):
    if not rig.can("Docker's API on this computer", "env"):
        return
    other, kernel = {"amd64": ("arm64", "aarch64"), "arm64": ("amd64", "x86_64")}[host_arch()]
    rig.ok("image", "base", "busybox", "--platform", f"linux/{other}", "--tag", "bb:other")
    client = docker.DockerClient(base_url=rig.facts()["docker_host"], timeout=600)
    try:
        assert client.containers.run("bb:other", ["uname", "-m"], remove=True).decode().strip() == kernel
    finally:
        rig.ok("docker", "rmi", "-f", "bb:other")
        client.close()
