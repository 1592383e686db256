"""The installed `hostvm` command as the e2e tests type it, and machines made with it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

HOSTVM = Path(sys.executable).with_name("hostvm.exe" if os.name == "nt" else "hostvm")
_MOST = 600.0
"""Seconds for a command nobody gave a limit: the guest image may have to be built first."""

ENGINE_ANEW = """\
rm -f /run/hostvm/marks/engine
s6-svc -r /run/service/dockerd
until [ -f /run/hostvm/marks/engine ]; do busybox usleep 100000; done
"""
"""In a guest: its engine ends and is there again."""


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    words: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def both(self) -> str:
        return self.out + self.err

    def __str__(self) -> str:
        return f"$ {shlex.join(self.words)}\nexit status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def run(*words: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None, limit: float = _MOST) -> Done:
    """Run a command to its end, whatever its exit status."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    source = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done = subprocess.run(
        words, capture_output=True, check=False, timeout=limit, env={**os.environ, **(env or {})}, **source
    )
    return Done(words, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def may_have_networks_of_its_own() -> bool:
    """Whether a command can be given a namespace of networks: on Linux, by root."""
    programs = sys.platform == "linux" and shutil.which("unshare") and shutil.which("ip")
    return bool(programs) and run("unshare", "--net", "true").status == 0


def unused_port() -> int:
    """One of this computer that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hostvm(*words: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> Done:
    """`hostvm WORDS`, with the guest's docker client unless `env` says otherwise."""
    return run(str(HOSTVM), *words, stdin=stdin, env={"HOSTVM_CLIENT": "guest", **(env or {})})


def succeed(done: Done) -> str:
    """Its output without the last line end; a failure is the test's."""
    assert done.status == 0, str(done)
    return done.out.removesuffix("\n")


def eventually(look, what: str, seconds: float = 20.0):
    """The first true value of `look()`; a test fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.1)
    return found


class Machine:
    """A running machine, spoken to by `hostvm` and by the docker SDK through its socket on this computer."""

    def __init__(self, name: str) -> None:
        self.name = name
        host = json.loads(self.hostvm("env", "--json"))["DOCKER_HOST"]
        self.docker_host: str = host
        self.sdk = docker.DockerClient(base_url=host, timeout=60)

    def hostvm(self, *words: str) -> str:
        return succeed(hostvm("-m", self.name, *words))

    def try_docker(self, *words: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> Done:
        """`docker WORDS`, which may fail."""
        return hostvm("-m", self.name, "docker", *words, stdin=stdin, env=env)

    def docker(self, *words: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> str:
        """What `docker WORDS` prints."""
        return succeed(self.try_docker(*words, stdin=stdin, env=env))

    def shell(self, *argv: str, stdin: str | bytes | None = None) -> str:
        """What a program in the guest prints."""
        return succeed(hostvm("-m", self.name, "shell", "--", *argv, stdin=stdin))

    def inspect(self, thing: str) -> dict[str, Any]:
        """What the engine knows of a container, image, network or volume."""
        found: dict[str, Any] = json.loads(self.docker("inspect", thing))[0]
        return found

    def image(self, reference: str) -> dict[str, Any]:
        """An image's facts, through the API."""
        return self.sdk.api.inspect_image(reference)

    def container(self, name: str) -> dict[str, Any]:
        """A container's facts, through the API."""
        return self.sdk.api.inspect_container(name)

    def holds(self, container: str, path: str) -> str | None:
        """The text of a file in a container, running or not, as `docker cp` reads it; None when there is none."""
        try:
            chunks, _ = self.sdk.api.get_archive(container, path)
        except docker.errors.NotFound:
            return None
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            file = tar.extractfile(tar.next())
            return file.read().decode(errors="replace") if file else ""

    def state(self, name: str) -> str:
        """created, running, paused, exited..."""
        return str(self.container(name)["State"]["Status"])

    def cgroup(self, container: str) -> str:
        """The folder in the guest that holds a running container's control group."""
        pid = self.container(container)["State"]["Pid"]
        return "/sys/fs/cgroup" + self.shell("cat", f"/proc/{pid}/cgroup").removeprefix("0::")

    def boot_id(self) -> str:
        """The running kernel's: changes with every boot."""
        return self.shell("cat", "/proc/sys/kernel/random/boot_id")

    @contextlib.contextmanager
    def clean(self):
        """Whatever is made inside the block is gone after it, in an order that needs no force but for containers."""
        before = {kind: self._things(kind) for kind in ("containers", "images", "volumes", "networks")}
        yield
        with ThreadPoolExecutor() as pool:  # an emulated guest takes a second and more for each, and has two processors
            list(
                pool.map(
                    lambda thing: self._remove("containers", thing), self._things("containers") - before["containers"]
                )
            )
        for kind in ("images", "volumes", "networks"):
            for thing in self._things(kind) - before[kind]:
                self._remove(kind, thing)

    def _things(self, kind: str) -> set[str]:
        api = self.sdk.api
        if kind == "containers":
            return {container["Id"] for container in api.containers(all=True)}
        if kind == "images":
            return {name for image in api.images() for name in image["RepoTags"] or [image["Id"]]}
        if kind == "volumes":
            return {volume["Name"] for volume in api.volumes()["Volumes"] or []}
        return {network["Id"] for network in api.networks()}

    def _remove(self, kind: str, thing: str) -> None:
        api = self.sdk.api
        # Removing one image removes another that was only its parent.
        with contextlib.suppress(docker.errors.NotFound):
            if kind == "containers":
                api.remove_container(thing, force=True, v=True)
            elif kind == "images":
                api.remove_image(thing, force=True)
            elif kind == "volumes":
                api.remove_volume(thing)
            else:
                api.remove_network(thing)


@contextlib.contextmanager
def small_machine(name: str, *options: str):
    """A running machine of 1 GiB with busybox, without folders of this computer."""
    with running_machine(name, "--cpus", "1", "--memory", "1GiB", "--mount", "none", *options) as made:
        made.hostvm("image", "base", "busybox:latest")
        yield made


def flip_bit(path: Path) -> Callable[[], None]:
    """Change one bit in the midst of a file; gives what changes it back."""
    place = path.stat().st_size // 2
    with path.open("rb") as file:
        file.seek(place)
        whole = file.read(1)

    def put(byte: int) -> None:
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([byte]))

    put(whole[0] ^ 4)
    return lambda: put(whole[0])


@contextlib.contextmanager
def running_machine(name: str, *options: str, shares: Collection[tuple[str, Path | str]] = ()):
    """A machine of this name from `hostvm start` to `hostvm rm`, and proof that nothing of it is left.

    :param shares: the kind and the folder of each share that it is to have; as text, SRC[:DST[:ro]].
    """
    try:
        if shares:
            succeed(hostvm("create", name, *options))
            options = ()
        for kind, folder in shares:
            succeed(hostvm("-m", name, "mount", "add", "--kind", kind, str(folder)))
        succeed(hostvm("start", name, *options))
        machine = Machine(name)
        yield machine
        machine.sdk.close()
    except BaseException as error:
        add_logs(error, name)
        raise
    finally:
        removed = hostvm("rm", "--force", name)
    succeed(removed)
    assert name not in {facts["name"] for facts in json.loads(succeed(hostvm("ls", "--json")))}
    left = [path for path in folders_of(name) if path.exists()]
    assert not left, f"left behind by the machine: {left}"


def add_logs(error: BaseException, name: str) -> None:
    """What a machine's guest and its agent said last, as notes of an error."""
    for log in (folders_of(name)[0] / "console.log", folders_of(name)[0] / "agent.log"):
        error.add_note(f"---- last lines of {log.parent.name}/{log.name}\n{last_lines(log)}")


def guest_logs(name: str) -> str:
    """What a running machine's engine and the like said last, from inside of its guest."""
    if hostvm("status", name, "--json").out.find('"status": "running"') < 0:
        return "it does not run"
    return hostvm("-m", name, "shell", "--", "sh", "-c", "tail -n 30 /var/log/*/current").both


@contextlib.contextmanager
def told_with_logs(machine: Machine, container: str):
    """A failure within is told with the machine's logs, the container's and what became of it."""
    try:
        yield
    except BaseException as error:
        add_logs(error, machine.name)
        for words in (("logs", container), ("inspect", "--format", "{{json .State}}", container)):
            error.add_note(str(machine.try_docker(*words)))
        raise


def last_lines(log: Path) -> str:
    """The last 40 lines of a log, which may be missing."""
    if not log.is_file():
        return "(none)"
    return "\n".join(log.read_bytes()[-12 * 1024 :].decode(errors="replace").splitlines()[-40:])


def processes_of(name: str, part: str = "") -> list[int]:
    """Of a machine: its QEMU, its agent, what listens while it sleeps, commands that name it.

    :param part: only those that have it in their command line.
    """

    def is_its(word: str) -> bool:
        word = word.replace("\\", "/")
        return word == name or f"/{name}/" in word or word.endswith(f"/{name}")

    found = [
        (process.pid, process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
    ]
    return [pid for pid, words in found if any(map(is_its, words)) and part in " ".join(words)]


def alive(pid: int) -> bool:
    """Also of one whose first thread is dead, while another waits for the disk: its sockets are open still."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False


def kill_agent(machine: Machine) -> None:
    """A command that reaches it while it dies is told "went away": it may have been begun, so nothing repeats it."""
    agent = json.loads((folders_of(machine.name)[1] / "agent.json").read_text())["process"][0]
    os.kill(agent, 9)
    eventually(lambda: not alive(agent), "the agent is dead")


def folders_of(name: str) -> tuple[Path, Path]:
    """Where a machine's files and sockets are while it exists."""
    return Path(os.environ["HOSTVM_HOME"], "machines", name), Path(os.environ["HOSTVM_RUN"], name)


@contextlib.contextmanager
def started(*words: str, env: dict[str, str] | None = None):
    """A hostvm command on its way, its stderr in a file that is read as it grows."""
    with subprocess.Popen(
        [str(HOSTVM), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def interrupt(process: subprocess.Popen[bytes]) -> str:
    """Ctrl-C, as a terminal sends it to the whole foreground group; what the command still said."""
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode(errors="replace")
    text = err.decode(errors="replace")
    assert "Traceback" not in text, text
    return text


def console(folder: Path) -> bytes:
    """What a machine's guest has said; nothing before its first start."""
    path = folder / "console.log"
    return path.read_bytes() if path.exists() else b""
