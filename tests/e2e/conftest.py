"""One warm machine for all of tests/e2e; each test finds its engine as the one before found it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine_rig import KINDS as ENGINES
from engine_rig import Rig, running_rig  # helpers beside this file
from machines import (
    HOSTVM,
    Machine,
    guest_logs,
    hostvm,
    last_lines,
    run,
    running_machine,
    small_machine,
    succeed,
    unused_port,
)
from sharing import KINDS, TOOLS, shared_with_container

ROOT = Path(__file__).parent.parent.parent
_numbers = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Beside a failure stands what the guests and their agents said last."""
    report = yield
    machines = Path(os.environ["HOSTVM_HOME"], "machines")
    if report.failed and machines.is_dir():
        for log in sorted(path for name in ("console.log", "agent.log") for path in machines.glob(f"*/{name}")):
            report.sections.append((f"last lines of {log.parent.name}/{log.name}", last_lines(log)))
        for used in getattr(item, "funcargs", {}).values():
            if isinstance(used, Machine | Rig):
                report.sections.append((f"last lines of the logs in {used.name}", guest_logs(used.name)))
    return report


@pytest.fixture(scope="session")
def shared_folders(tmp_path_factory):
    """A folder of this computer for each way of sharing; the machine has them at the same paths."""
    kinds = ("9p", "virtiofs", "sftp", "nfs") if sys.platform == "linux" else ("9p", "sftp", "nfs")
    return {kind: tmp_path_factory.mktemp(f"shared-by-{kind}") for kind in kinds}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two of this computer, each with a file."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("kept", "used")}
    for name, folder in made.items():
        (folder / "file").write_text(name)
    return made


@pytest.fixture(scope="session")
def names_port():
    """Where container names answer; not the usual port, which a developer's own machines hold."""
    return str(unused_port())


@pytest.fixture(scope="session")
def machine(shared_folders, names_port):
    """The machine most tests share, with debian:trixie and busybox:latest made from packages, no registry asked."""
    assert HOSTVM.exists(), f"no {HOSTVM}: run `make setup`"
    options = ("--cpus", "2", "--memory", "2GiB", "--mount", "none", "--names", names_port)
    with running_machine(f"e2e-{os.getpid()}", *options, shares=shared_folders.items()) as made:
        for base in ("busybox:latest", "debian:trixie"):
            made.hostvm("image", "base", base)
        yield made


@pytest.fixture(scope="session")
def read_only_folders(shared_folders, tmp_path_factory):
    """The same, of folders that the machine of shares may only read; everybody here may do everything in them."""
    made = {kind: tmp_path_factory.mktemp(f"read-only-by-{kind}") for kind in shared_folders}
    for folder in made.values():
        for inner in ("empty", "full"):
            (folder / inner).mkdir()
        (folder / "full" / "inner").write_text("inner")
        (folder / "kept").write_text("kept")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
    return made


@pytest.fixture(scope="session")
def _sharing_made(shared_folders, read_only_folders, names_port):
    """Whose agent is killed and whose shares come and go."""
    options = ("--cpus", "2", "--memory", "2GiB", "--mount", "none", "--names", names_port)
    shares = [*shared_folders.items(), *((kind, f"{folder}:ro") for kind, folder in read_only_folders.items())]
    with running_machine(f"e2e-{os.getpid()}-f", *options, shares=shares) as made:
        made.hostvm("image", "base", "busybox:latest")
        yield made


@pytest.fixture(scope="session")
def tools(_sharing_made) -> str:
    """An image with python3, git, a shell and two programs that start others anew when files change.

    Without dpkg, whose configuring takes minutes under emulation.
    """
    names = ("coreutils", "dash", "git", "python3-watchdog", "python3-watchfiles")
    packages = [word for name in names for word in ("--package", name)]
    _sharing_made.hostvm("image", "base", "distroless-python:trixie", *packages, "--tag", TOOLS)
    return TOOLS


@pytest.fixture(scope="session", params=KINDS)
def share(request, _sharing_made, shared_folders, tools):
    """One kind's folder here, and a container that has it at /w; the tests of a kind come together, of both modules."""
    with shared_with_container(_sharing_made, request.param, shared_folders[request.param], tools) as made:
        yield made


@pytest.fixture(scope="session")
def residents(machine):
    """Names of two containers that always run, a Debian and a busybox one, made without any option."""
    names = {"debian": "resident-debian", "busybox": "resident-busybox"}
    for name, image in zip(names.values(), ("debian:trixie", "busybox:latest"), strict=True):
        machine.docker("run", "-d", "--name", name, image, "sleep", "3601")
    return names


@pytest.fixture(scope="module")
def second_machine(names_port):
    """Another one beside it; small, and gone with the module that needs two."""
    with running_machine(f"e2e-{os.getpid()}-b", "--cpus", "1", "--memory", "1GiB", "--names", names_port) as made:
        made.hostvm("image", "base", "busybox:latest")
        yield made


@pytest.fixture(scope="session")
def _spare_made(names_port):
    with small_machine(f"e2e-{os.getpid()}-s", "--names", names_port) as made:
        yield made


@pytest.fixture
def spare(_spare_made):
    """A machine to be restarted, damaged and mended; it runs when a test gets it."""
    _spare_made.hostvm("start")
    yield _spare_made
    _spare_made.try_docker("rm", "-fv", "comes-back", "written")


@pytest.fixture
def exposed(spare):
    """The spare machine with `ports: {expose: lan}`."""
    succeed(hostvm("set", "--restart", spare.name, "ports.expose=lan"))
    with spare.clean():
        yield spare
    succeed(hostvm("set", "--restart", spare.name, "ports.expose="))


@pytest.fixture(
    scope="session",
    params=[pytest.param(kind, marks=[] if kind == "podman" else pytest.mark.slow) for kind in ENGINES],
)
def rig(request, names_port):
    """A machine for one kind of engine after the other; the tests of a kind come together, of both modules."""
    with running_rig(request.param, "--names", names_port) as made:
        yield made


@pytest.fixture
def box(machine):
    """The shared machine; what a test makes in it is removed after the test."""
    with machine.clean():
        yield machine


@pytest.fixture
def other(second_machine):
    """The second machine, cleaned in the same way."""
    with second_machine.clean():
        yield second_machine


@pytest.fixture
def unique():
    """`unique("web")` is a name that no other test uses."""
    return lambda stem: f"{stem}-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="session")
def client_program():
    """A docker client of this computer that set-up brought: unpacked from Debian, or Homebrew's."""
    unpacked = ROOT / ".tools" / "bin" / "docker"
    found = str(shutil.which("docker")) if sys.platform == "darwin" else str(unpacked)
    assert Path(found).is_file(), f"no docker client at {found}: run `make setup`"
    return found


@pytest.fixture(scope="session")
def host_client(client_program):
    """Environment in which hostvm uses that client."""
    return {"HOSTVM_CLIENT": "host", "PATH": f"{Path(client_program).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def host_web():
    """Port of a web server on this computer's loopback. QEMU's network shows it to the guest as 10.0.2.2."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"from outside\n")

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def free_port():
    """A port of this computer that nobody listened on a moment ago."""
    return unused_port()


@pytest.fixture(scope="session")
def current_client(machine, tmp_path_factory):
    """Debian trixie's docker client with compose and buildx, for this computer: `(program, environment)`.

    Its packages are the guest's own, kept and checked when the image was built; bookworm's archive has neither plugin.
    """
    inspected = json.loads(machine.hostvm("inspect", machine.name))["made"]["image"]
    image = json.loads(succeed(hostvm("image", "inspect", inspected)))
    tree = tmp_path_factory.mktemp("client")
    wanted = {"docker-cli", "docker-buildx", "docker-compose"}
    for package in image["manifest"]["packages"]:
        if package["name"] in wanted:
            digest = package["sha256"]
            file = Path(os.environ["HOSTVM_CACHE"], "archive", "sha256", digest[:2], digest)
            succeed(run("dpkg-deb", "-x", str(file), str(tree)))
    config = tree / "config"
    config.mkdir()
    (config / "cli-plugins").symlink_to(tree / "usr" / "libexec" / "docker" / "cli-plugins")
    return str(tree / "usr" / "bin" / "docker"), {"DOCKER_CONFIG": str(config), "DOCKER_HOST": machine.docker_host}
