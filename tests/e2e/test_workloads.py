"""What people do all day with an engine: builds that fail, builds of several stages, a devcontainer, much at once."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest
from machines import HOSTVM, eventually, hostvm, run, running_machine, succeed

from hostvm.machines.trim import allocated
from hostvm.paths import MachinePaths

pytestmark = pytest.mark.vm

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SLOW = (pytest.mark.slow, pytest.mark.timeout(3600))
GIB = 1024**3


def slow(test):
    """Minutes in an emulated guest; not for each run."""
    for mark in SLOW:
        test = mark(test)
    return test


def test_a_step_that_fails_ends_the_build_with_its_status_and_words(box, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN echo kept > /kept\nRUN echo told on the way >&2; exit 37\nRUN echo never reached\n"
    )
    failed = box.try_docker("build", "--progress", "plain", "-t", "broken", str(tmp_path))
    assert failed.status == 1
    assert "told on the way" in failed.err
    assert "did not complete successfully: exit code: 37" in failed.err
    assert "Dockerfile:3" in failed.err
    assert "never reached" not in failed.err.partition("Dockerfile:3")[0]
    assert "Traceback" not in failed.both
    assert box.sdk.api.images("broken") == []


@pytest.fixture(scope="module")
def large(names_port):
    """A machine of 2 GiB with a Debian and a busybox image; the module's folder is in it at the same path."""
    folder = Path("/tmp" if os.name == "posix" else os.environ["TEMP"], f"hv-work-{os.getpid()}")
    folder.mkdir()
    options = ("--cpus", "2", "--memory", "2GiB", "--mount", str(folder), "--names", names_port)
    try:
        with running_machine(f"work-{os.getpid()}", *options) as made:
            for base in ("busybox:latest", "debian:trixie"):
                made.hostvm("image", "base", base)
            made.folder = folder
            yield made
    finally:
        shutil.rmtree(folder)


@slow
def test_fifty_containers_at_once_on_two_gigabytes(large):
    """All of them run at the same time, answer, and are gone again."""

    def start(number: int) -> str:
        client = docker.DockerClient(base_url=large.docker_host, timeout=600)
        made = client.containers.run(
            "busybox", ["sh", "-c", f"echo {number} > /own; exec sleep 3600"], detach=True, name=f"fifty-{number}"
        )
        client.close()
        return made.id

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(start, range(50)))
    running = {one["Id"] for one in large.sdk.api.containers()}
    assert set(made) <= running
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda number: large.holds(f"fifty-{number}", "/own"), range(50)))
    assert said == [f"{number}\n" for number in range(50)]
    facts = dict(line.split(":") for line in large.shell("cat", "/proc/meminfo").splitlines())
    assert int(facts["MemAvailable"].split()[0]) > 256 * 1024, "kB are left"
    large.docker("rm", "-f", *made)
    assert not {one["Id"] for one in large.sdk.api.containers(all=True)} & set(made)


@slow
def test_an_image_of_three_gigabytes_by_stdin(large):
    """`docker load` of a stream that nobody keeps: its layer is made while it is sent. Removed, it takes no room."""
    size = 3 * GIB
    large.shell("sync")  # the base images are made a moment ago, and not all on the disk yet
    before = taken(large)
    process = subprocess.Popen(
        [str(HOSTVM), "-m", large.name, "docker", "load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HOSTVM_CLIENT": "guest"},
    )
    block = os.urandom(1 << 20)
    head = tarfile.TarInfo("large")
    head.size = size
    digest = hashlib.sha256(head.tobuf())
    for _ in range(size // len(block)):
        digest.update(block)
    end = bytes(2 * tarfile.BLOCKSIZE)
    digest.update(end)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
    }
    listed = [{"Config": "config.json", "RepoTags": ["large:1"], "Layers": ["layer.tar"]}]
    texts = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(listed).encode()}
    with process.stdin as sink:
        for name, data in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            sink.write(member.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE))
        layer = tarfile.TarInfo("layer.tar")
        layer.size = tarfile.BLOCKSIZE + size + len(end)
        sink.write(layer.tobuf() + head.tobuf())
        for _ in range(size // len(block)):
            sink.write(block)
        sink.write(end + bytes(2 * tarfile.BLOCKSIZE))
    said = process.stdout.read().decode()
    assert process.wait(600) == 0, said
    assert "Loaded image: large:1" in said
    assert large.image("large:1")["Size"] == size
    made = large.sdk.api.create_container("large:1", command=["x"])
    # No more than the archive's first words: one that is left open here would keep the container locked.
    first = large.shell("sh", "-c", f"docker cp {made['Id']}:/large - 2>/dev/null | head -c 8192 | base64")
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(first)), mode="r|") as tar:
        assert tar.next().size == size
    large.shell("sync")
    assert taken(large) - before > size * 0.9
    large.docker("rm", made["Id"])
    large.docker("rmi", "large:1")
    eventually(lambda: taken(large) - before < size * 0.1, "its room is free here", 120)


def taken(box) -> int:
    """Bytes of this computer that the machine's disk takes."""
    return allocated(MachinePaths.of(box.name).data_disk)


@slow
@pytest.mark.parametrize(("language", "says"), [("c", "12 words"), ("python", "12 words")])
def test_a_build_of_several_stages_leaves_the_tools_behind(large, language, says):
    """examples/stages: compilers and pip in the first stage, the program alone in the last."""
    image = f"words-{language}"
    large.docker("build", "-t", image, str(EXAMPLES / "stages" / language))
    text = b"one two three four five six\nseven eight nine ten eleven twelve\n"
    assert large.docker("run", "--rm", "-i", image, stdin=text) == says
    tools = {"c": "gcc", "python": "pip"}
    assert (
        large.try_docker("run", "--rm", "--entrypoint", "sh", image, "-c", f"command -v {tools[language]}").status != 0
    )


@slow
def test_a_devcontainer_by_its_own_command_line(large, client_program, tmp_path):
    """The devcontainers CLI of npm, with a docker client of this computer, against the machine's docker.sock."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this computer")
    succeed(
        run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(tmp_path), "@devcontainers/cli")
    )
    workspace = large.folder / "project"
    shutil.copytree(EXAMPLES / "devcontainer", workspace)
    program = str(tmp_path / "node_modules" / ".bin" / "devcontainer")
    env = {"DOCKER_HOST": large.docker_host, "DOCKER_CONFIG": str(tmp_path / "docker")}
    where = ("--workspace-folder", str(workspace), "--docker-path", client_program)
    up = run(program, "up", *where, env=env, limit=1800)
    outcome = json.loads(succeed(up).splitlines()[-1])
    assert outcome["outcome"] == "success", str(up)
    said = run(program, "exec", *where, "sh", "-c", "cat made-by-postCreate; echo $EDITION; id -un", env=env)
    assert succeed(said).split() == ["made", "first", "root"]
    assert (workspace / "made-by-postCreate").read_text() == "made\n", "the folder is this computer's"
    large.docker("rm", "-f", outcome["containerId"])
    assert hostvm("-m", large.name, "docker", "ps", "-q").out == ""
