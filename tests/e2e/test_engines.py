"""The same acceptance tests for every engine but docker's, which all other tests have.

What an engine cannot do stands in the table of docs/engines.md. A test looks it up: where the table says no, the words
that would do it must be refused with what the engine has instead.
"""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from machines import eventually, folders_of, hostvm, last_lines, succeed, unused_port  # a helper beside this file

PAGE = Path(__file__).parent.parent.parent / "docs" / "engines.md"
BUSYBOX = "docker.io/library/busybox:latest"


def read_table(page: Path = PAGE) -> dict[str, dict[str, str]]:
    """Ability -> engine -> what the page says: "yes", or "no" and why."""
    rows = [line.strip().strip("|").split("|") for line in page.read_text(encoding="utf-8").splitlines() if "|" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    start = next(number for number, row in enumerate(cells) if row[1:] == ["docker", "podman", "containerd"])
    found = {}
    for ability, *told in cells[start + 2 :]:
        if len(told) != len(cells[start]) - 1:
            break
        found[ability] = dict(zip(cells[start][1:], told, strict=True))
    return found


TABLE = read_table()


@dataclass
class Rig:
    """A running machine with its engine."""

    name: str
    engine: str

    def words(self, *words: str, stdin: str | None = None):
        return hostvm("-m", self.name, *words, stdin=stdin)

    def ok(self, *words: str, stdin: str | None = None) -> str:
        return succeed(self.words(*words, stdin=stdin))

    def facts(self) -> dict:
        return json.loads(self.ok("status", "--json"))

    def can(self, ability: str, *instead: str) -> bool:
        """Whether the page says yes; where it says no, `instead` is refused with the engine's name."""
        told = TABLE[ability][self.engine]
        if told.startswith("yes"):
            return True
        assert told.startswith("no")
        refused = self.words(*instead)
        assert refused.status in (1, 125), str(refused)
        assert self.engine in refused.err, str(refused)
        return False

    def run(self, *command: str, stdin: str | None = None):
        """A container that is gone when its command has ended."""
        if self.engine == "containerd":
            return self.words("ctr", "run", "--rm", BUSYBOX, f"once-{os.getpid()}", *command, stdin=stdin)
        return self.words(self.engine, "run", "--rm", "-i", "busybox", *command, stdin=stdin)


@pytest.fixture(scope="module", params=["podman", pytest.param("containerd", marks=pytest.mark.slow)])
def rig(request, names_port):
    """A machine for one engine after the other, with busybox made from packages."""
    name = f"e2e-{os.getpid()}-{request.param[:3]}"
    options = ("--cpus", "1", "--memory", "1GiB", "--mount", "none", "--names", names_port)
    try:
        succeed(hostvm("start", name, "--engine", request.param, *options))
        made = Rig(name, request.param)
        made.ok("image", "base", "busybox")
        yield made
    except BaseException as error:
        for log in ("console.log", "agent.log"):
            error.add_note(f"---- last lines of {name}/{log}\n{last_lines(folders_of(name)[0] / log)}")
        raise
    finally:
        removed = hostvm("rm", "--force", name)
    succeed(removed)


@pytest.fixture
def port():
    return unused_port()


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
        assert [image.tags for image in client.images.list()] == [[BUSYBOX]]
        client.close()
    else:
        assert facts["docker_host"] == ""
        assert not (folders_of(rig.name)[1] / "docker.sock").exists()


def test_a_docker_client_of_this_computer(rig, host_client):
    if rig.can("Docker's API on this computer", "docker", "ps"):
        words = ("-m", rig.name, "docker", "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 3")
        done = hostvm(*words, stdin="typed here", env=host_client)
        assert (done.status, done.out) == (3, "typed here"), str(done)


def test_words_that_it_has_and_has_not(rig):
    others = {"podman": ("ctr", "nerdctl"), "containerd": ("docker", "compose", "podman")}[rig.engine]
    for word in others:
        refused = rig.words(word, "version")
        assert (refused.status, refused.out) == (125, "")
        assert f"its engine is {rig.engine}" in refused.err
    own = {"podman": ("podman", "docker"), "containerd": ("ctr",)}[rig.engine]
    assert all("Version" in rig.ok(word, "version") for word in own)


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


def test_published_port_is_reached_from_here(rig, port):
    if rig.can("published ports", "docker", "ps"):
        serve = "mkdir /w && echo served > /w/index.html && exec httpd -f -p 80 -h /w"
        rig.ok("docker", "run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", serve)

        def look() -> bytes:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                    return answer.read()
            except OSError:
                return b""

        assert eventually(look, "the container answers") == b"served\n"
        assert "web" in rig.ok("port", "ls")
        rig.ok("docker", "rm", "-f", "-t", "0", "web")
        eventually(lambda: "web" not in rig.ok("port", "ls"), "the port is closed")


def test_containers_find_each_other_by_name(rig):
    if rig.can("networks, names of containers in them", "docker", "network", "ls"):
        rig.ok("docker", "network", "create", "net")
        serve = "mkdir /w && echo found > /w/index.html && exec httpd -f -p 80 -h /w"
        rig.ok("docker", "run", "-d", "--name", "there", "--network", "net", "busybox", "sh", "-c", serve)
        ask = "until wget -q -O - http://there/; do sleep 0.1; done"
        assert rig.ok("docker", "run", "--rm", "--network", "net", "busybox", "sh", "-c", ask) == "found"
        rig.ok("docker", "rm", "-f", "-t", "0", "there")


def test_compose(rig):
    if rig.can("compose", "compose", "ls"):
        service = {"image": "busybox", "command": "sleep 1000", "stop_grace_period": "0s"}
        project = json.dumps({"name": "small", "services": {"one": service}})
        rig.ok("compose", "-f", "-", "up", "-d", stdin=project)
        assert rig.ok("docker", "ps", "--format", "{{.Names}}").split() == ["small-one-1"]
        rig.ok("compose", "-p", "small", "down")


def test_compose_waits_until_a_service_is_healthy(rig):
    if rig.can("compose", "compose", "ls"):
        service = {"image": "busybox", "command": "sleep 1000", "stop_grace_period": "0s"}
        first = {**service, "healthcheck": {"test": ["CMD", "true"], "interval": "1s"}}
        then = {**service, "depends_on": {"first": {"condition": "service_healthy"}}}
        project = json.dumps({"name": "healthy", "services": {"first": first, "then": then}})
        rig.ok("compose", "-f", "-", "up", "-d", stdin=project)
        health = ("docker", "inspect", "-f", "{{.State.Health.Status}}", "healthy-first-1")
        assert rig.ok(*health) == "healthy"
        rig.ok("compose", "-p", "healthy", "down")


def test_its_engine_stays(rig):
    other = "docker" if rig.engine == "podman" else "podman"
    for refused, status in (
        (rig.words("set", f"engine={other}"), 2),  # a wrong setting, as others are
        (hostvm("start", rig.name, "--engine", "docker"), 1),
    ):
        assert refused.status == status, str(refused)
        assert "hostvm start NEW --engine" in refused.err
        assert "docker load" in refused.err or "docker save" in refused.err


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
