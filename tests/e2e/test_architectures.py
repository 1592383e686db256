"""Containers of the other architecture, images for both, and a machine from a bundle where no network is."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import docker
import pytest
import requests
from backports import zstd
from machines import (
    HOSTVM,
    eventually,
    folders_of,
    hostvm,
    last_lines,
    may_have_networks_of_its_own,
    run,
    small_machine,
    succeed,
    unused_port,
)

from hostvm.accel import host_arch
from hostvm.agent.client import agent_is_ready, request
from images.archive import DEFAULT_MIRROR, Fetcher, open_archive, suites_of
from images.progress import NullProgress

pytestmark = pytest.mark.vm

NATIVE = host_arch()
OTHER, KERNEL = {"amd64": ("arm64", "aarch64"), "arm64": ("amd64", "x86_64")}[NATIVE]
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json"
# No proxy answers there: who needs the network fails at once.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")

# No hostvm of a checkout, and no other wheels than those that are named.
OWN_PYTHON = {"PYTHONPATH": "", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def own(names_port):
    with small_machine(f"arch-{os.getpid()}", "--names", names_port) as made:
        made.hostvm("image", "base", "busybox", "--platform", f"linux/{OTHER}", "--tag", "bb:other")
        made.hostvm("image", "base", "distroless-python", "--nonroot")
        yield made


@pytest.fixture(scope="module")
def port():
    return unused_port()


def forget_emulator(own):
    """As in a machine where nobody has wanted it yet: the start places one that this computer's cache has."""
    entry, run_dir = f"/proc/sys/fs/binfmt_misc/qemu-{OTHER}", folders_of(own.name)[1]
    own.shell("sh", "-c", f"[ ! -e {entry} ] || echo -1 > {entry}; rm -rf /var/lib/hostvm/emulators; [ ! -e {entry} ]")
    request(run_dir, "reconnect")  # what the agent knows of the guest ends with its connection
    eventually(lambda: agent_is_ready(run_dir), "a new connection", 120)


@pytest.mark.parametrize("named", [{"platform": f"linux/{OTHER}"}, {}], ids=["by its platform", "by its image"])
def test_a_docker_client_is_the_first_to_run_a_container_of_the_other_architecture(own, named):
    """One that knows nothing of hostvm's words."""
    forget_emulator(own)
    client = docker.DockerClient(base_url=own.docker_host, timeout=600)
    assert client.containers.run("bb:other", ["uname", "-m"], remove=True, **named).decode().strip() == KERNEL
    client.close()
    told = json.loads(own.hostvm("status", "--json"))["agent"]["services"]["emulators"]
    assert told == {"arch": OTHER, "registered": True, "why": ""}


def test_a_container_of_the_other_architecture_runs(own):
    forget_emulator(own)
    assert own.docker("run", "--rm", "--platform", f"linux/{OTHER}", "bb:other", "uname", "-m") == KERNEL
    # A program that it starts, too, and a script by its interpreter.
    script = "echo '#!/bin/sh' > /s; echo 'uname -m; cat /proc/sys/kernel/ostype' >> /s; chmod +x /s; exec /s"
    assert own.docker("run", "--rm", "bb:other", "sh", "-c", script).splitlines() == [KERNEL, "Linux"]


def test_a_platform_without_an_emulator_is_refused_with_the_setting(own):
    refused = own.try_docker("run", "--rm", "--platform", "linux/riscv64", "bb:other", "true")
    assert refused.status == 125
    assert f"hostvm set {own.name} emulate={OTHER},riscv64" in refused.err


@pytest.mark.slow
def test_images_for_both_are_built_and_pushed_as_one(own, port, tmp_path):
    own.hostvm("registry", "start", own.name, "--port", str(port))
    name = f"localhost:{port}/app"
    for arch, base in ((NATIVE, "busybox"), (OTHER, "bb:other")):
        (tmp_path / "Dockerfile").write_text(f"FROM {base}\nRUN uname -m > /made-by\n", encoding="utf-8")
        own.docker("build", "-q", "--platform", f"linux/{arch}", "-t", f"{name}:{arch}", str(tmp_path))
        own.docker("push", "-q", f"{name}:{arch}")
    own.docker("buildx", "imagetools", "create", "-t", f"{name}:1", f"{name}:{NATIVE}", f"{name}:{OTHER}")
    listed = requests.get(f"http://localhost:{port}/v2/app/manifests/1", headers={"Accept": INDEX}, timeout=10).json()
    assert {one["platform"]["architecture"] for one in listed["manifests"]} == {NATIVE, OTHER}
    own.docker("rmi", f"{name}:{OTHER}")
    own.docker("pull", "-q", "--platform", f"linux/{OTHER}", f"{name}:1")
    assert own.docker("run", "--rm", "--platform", f"linux/{OTHER}", f"{name}:1", "cat", "/made-by") == KERNEL


def test_a_python_without_a_shell(own):
    program = "import os, ssl, sqlite3; print(os.getuid(), len(ssl.create_default_context().get_ca_certs()) > 100)"
    assert own.docker("run", "--rm", "distroless-python:trixie", "-c", program) == "65532 True"
    assert own.try_docker("run", "--rm", "--entrypoint", "sh", "distroless-python:trixie").status == 127


@pytest.mark.slow
def test_emulators_are_there_after_a_restart_and_let_go_of_the_disk(own):
    own.docker("run", "-d", "--name", "keeper", "--restart", "always", "bb:other", "sleep", "3600")
    own.hostvm("restart", own.name)
    assert own.state("keeper") == "running"
    assert own.docker("exec", "keeper", "uname", "-m") == KERNEL
    assert "hostvm-guest: fail" not in last_lines(folders_of(own.name)[0] / "console.log.1")
    assert json.loads(own.hostvm("inspect", own.name))["name"] == own.name


def busybox_of(debian_arch: str, folder: Path) -> bytes:
    """A tar with Debian's busybox for `docker import`; from the main archive alone, whose indexes every mirror has."""
    fetcher = Fetcher(Path(os.environ["HOSTVM_CACHE"]))
    suites = suites_of("trixie", DEFAULT_MIRROR, ())
    archive = open_archive(suites, debian_arch, fetcher, NullProgress(), only={"busybox-static"})
    (deb,) = archive.fetch(archive.resolve(["busybox-static"]), NullProgress())
    succeed(run("dpkg-deb", "-x", str(deb), str(folder)))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder / "usr" / "bin" / "busybox", "bin/uname")
    return out.getvalue()


NAMED = {"arm": ("linux/arm/v7", "armhf", "armv7l"), "riscv64": ("linux/riscv64", "riscv64", "riscv64")}
"""Architectures of `emulate:` -> the platform of their images, Debian's name, and what a kernel would call them."""


@pytest.fixture(scope="module")
def named_images(own, tmp_path_factory):
    """`bb:arm` and the like, each with one program that says which kernel's it is."""
    for name, (platform, debian_arch, _) in NAMED.items():
        tree = busybox_of(debian_arch, tmp_path_factory.mktemp(name))
        own.docker("import", "--platform", platform, "-", f"bb:{name}", stdin=tree)


def runs(own, name: str) -> bool:
    """By another client than hostvm's own, which brings an emulator when it is asked for one."""
    platform, _, kernel = NAMED[name]
    made = own.sdk.containers.run(f"bb:{name}", ["/bin/uname", "-m"], remove=True, platform=platform)
    return bool(made.decode().strip() == kernel)


@pytest.mark.slow
@pytest.mark.usefixtures("named_images")
def test_those_that_are_named_come_with_the_start(own):
    own.hostvm("set", "--restart", own.name, f"emulate={OTHER},{','.join(NAMED)}")
    assert all(runs(own, name) for name in NAMED)
    assert own.docker("run", "--rm", "--platform", f"linux/{OTHER}", "bb:other", "uname", "-m") == KERNEL


def registered(own) -> set[str]:
    """The architectures that the guest's kernel has an emulator for."""
    formats = own.shell("ls", "/proc/sys/fs/binfmt_misc").split()
    return {name.removeprefix("qemu-") for name in formats} - {"register", "status"}


@pytest.mark.slow
@pytest.mark.usefixtures("named_images")
def test_those_that_are_named_stay_and_no_other_is_registered(own):
    """Not though its emulator lies on the machine's disk, and somebody wants it."""
    own.docker("run", "--rm", "--platform", f"linux/{OTHER}", "bb:other", "true")
    try:
        own.hostvm("set", "--restart", own.name, f"emulate={','.join(NAMED)}")
        assert registered(own) == set(NAMED)
        refused = own.try_docker("run", "--rm", "--platform", f"linux/{OTHER}", "bb:other", "true")
        assert (refused.status, "`emulate` in its machine.yaml means: arm, riscv64" in refused.err) == (125, True)
        with pytest.raises(docker.errors.ContainerError, match="exec format error"):
            own.sdk.containers.run("bb:other", ["uname", "-m"], remove=True, platform=f"linux/{OTHER}")
        own.hostvm("restart", own.name)
        assert registered(own) == set(NAMED)
        assert all(runs(own, name) for name in NAMED)

        own.shell("sh", "-c", "kill -9 $(pidof dockerd); sleep 1")
        eventually(lambda: own.try_docker("ps", "-q").status == 0, "the engine answers again", 60)
        assert registered(own) == set(NAMED)
        assert all(runs(own, name) for name in NAMED)

        own.hostvm("set", "--restart", own.name, "emulate=[]")
        assert registered(own) == set()
    finally:
        own.hostvm("set", "--restart", own.name, "emulate=auto")


@pytest.mark.slow
def test_a_machine_from_a_bundle_where_no_network_is(own, tmp_path, names_port):
    """Everything it needs is in the file; `own` has made its image, and the base image, before."""
    file, empty = tmp_path / "site.hostvm", str(tmp_path / "cache")
    succeed(hostvm("bundle", "create", "-o", str(file), "--base", f"busybox@linux/{OTHER}", "--no-wheels"))
    there = {"HOSTVM_CACHE": empty, **NO_NETWORK}
    refused = hostvm("bundle", "load", str(file), env=there)
    assert "not signed" in refused.err
    told = succeed(hostvm("bundle", "load", "--allow-unsigned", "--json", str(file), env=there))
    assert {kind: len(json.loads(told)[kind]) for kind in ("images", "base", "emulators")} == {
        "images": 1, "base": 1, "emulators": 1,
    }  # fmt: skip
    name = f"site-{os.getpid()}"
    options = ("--cpus", "1", "--memory", "1GiB", "--mount", "none", "--names", names_port)
    try:
        succeed(hostvm("start", name, *options, env=there))
        succeed(hostvm("-m", name, "image", "base", "busybox", "--platform", f"linux/{OTHER}", env=there))
        ran = hostvm(
            "-m", name, "docker", "run", "--rm", "--platform", f"linux/{OTHER}", "busybox", "uname", "-m", env=there
        )
        assert succeed(ran) == KERNEL
    finally:
        removed = hostvm("rm", "--force", name, env=there)
    succeed(removed)


def install(file: Path, there: Path, *front: str) -> Path:
    """What a site has before it has hostvm: zstd's format, tar, python and pip, no index; the folder of its programs.

    :param front: words before each command.
    """
    with zstd.open(file) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        tar.extractall(there, (one for one in tar if one.name.startswith("wheels/")), filter="data")
    succeed(run(*front, sys.executable, "-m", "venv", str(there / "venv")))
    programs = there / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (str(programs / "python"), "-m", "pip", "install", "--no-index", "--find-links", str(there / "wheels"))
    succeed(run(*front, *pip, "hostvm", env={**NO_NETWORK, **OWN_PYTHON}))
    return programs


@pytest.mark.slow
def test_hostvm_itself_installs_from_a_bundle(own, tmp_path):
    file = tmp_path / "site.hostvm"
    own.hostvm("bundle", "create", "-o", str(file))
    programs = install(file, tmp_path / "there")
    assert "hostvm" in succeed(run(str(programs / "hostvm"), "--version", env=OWN_PYTHON))


@pytest.fixture
def nowhere():
    """Words before a command that has no network but a loopback of its own, nor any way out of it."""
    words = ("unshare", "--net", "sh", "-ec", "ip link set lo up; echo up; exec cat")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"up\n"
        yield ("nsenter", f"--net=/proc/{holder.pid}/ns/net")


@pytest.mark.slow
@pytest.mark.skipif(not may_have_networks_of_its_own(), reason="commands get a network of their own: needs Linux, root")
def test_a_site_without_any_network_has_all_it_needs_in_one_file(tmp_path, nowhere):
    """By the hostvm that came in it, with nothing that this computer's has made or looked at before."""
    name, file = f"site-{os.getpid()}", tmp_path / "site.hostvm"
    public = succeed(hostvm("image", "key", "new", name)).split()[-1]
    try:
        # Making one asks no network either, once its parts are there; the wheels alone are pip's to fetch.
        succeed(hostvm("bundle", "create", "-o", str(file), "--base", "busybox", "--sign", name))
        parts = ("bundle", "create", "-o", str(tmp_path / "parts"), "--base", "busybox", "--no-wheels")
        succeed(run(*nowhere, str(HOSTVM), *parts))
    finally:
        succeed(hostvm("image", "key", "rm", name))
    assert succeed(run(*nowhere, "ip", "route")) == "", "it has no way to anywhere"
    programs = install(file, tmp_path / "there", *nowhere)
    run_dir = Path(f"{os.environ['HOSTVM_RUN']}-site")  # sockets' paths are short
    env = {
        **OWN_PYTHON,
        "HOSTVM_CLIENT": "guest",
        "HOSTVM_HOME": str(tmp_path / "home"),
        "HOSTVM_CACHE": str(tmp_path / "cache"),
        "HOSTVM_RUN": str(run_dir),
    }

    def there(*words: str):
        return run(*nowhere, str(programs / "hostvm"), *words, env=env)

    refused = there("bundle", "load", str(file))
    assert refused.status != 0, str(refused)
    succeed(there("image", "key", "trust", public))
    succeed(there("bundle", "load", str(file)))
    try:
        succeed(there("start", name, "--cpus", "1", "--memory", "1GiB", "--mount", "none"))
        succeed(there("-m", name, "image", "base", "busybox"))
        assert succeed(there("-m", name, "docker", "run", "--rm", "busybox", "echo", "runs")) == "runs"
        (tmp_path / "built").mkdir()
        (tmp_path / "built" / "Dockerfile").write_text("FROM busybox\nRUN echo built > /word\n")
        succeed(there("-m", name, "docker", "build", "-q", "-t", "own", str(tmp_path / "built")))
        assert succeed(there("-m", name, "docker", "run", "--rm", "own", "cat", "/word")) == "built"
    except BaseException as error:
        for log in ("console.log", "agent.log"):
            error.add_note(last_lines(tmp_path / "home" / "machines" / name / log))
        raise
    finally:
        removed = there("rm", "--force", name)
        shutil.rmtree(run_dir, ignore_errors=True)
    succeed(removed)
