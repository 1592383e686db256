"""What Docker's overview says of registries, proved with Debian's docker-registry running in the guest."""

from __future__ import annotations

import io
import json
import re
import tarfile

import bcrypt
import docker
import pytest
from machines import succeed

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

USER, PASSWORD = "alice", "correct horse"

CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}}}
"""
AUTH = "auth: {{htpasswd: {{realm: e2e, path: {folder}/htpasswd}}}}\n"

# The port is taken before the registry is ready, so readiness is its answer to a request.
START = """\
set -e
cd {folder}
setsid docker-registry serve config.yml < /dev/null > log 2>&1 &
echo $! > pid
tries=0
until wget -S -q -O /dev/null http://127.0.0.1:{port}/v2/ 2>&1 | grep -q HTTP/; do
    tries=$((tries + 1))
    if [ $tries = 200 ]; then cat log >&2; exit 1; fi
    busybox usleep 100000
done
"""


def start_registry(machine, port: int, *, auth: bool) -> str:
    """Its folder in the guest; images are called 127.0.0.1:PORT/NAME there."""
    folder = f"/var/tmp/e2e-registry-{port}"
    machine.shell("mkdir", "-p", folder)
    config = (CONFIG + (AUTH if auth else "")).format(folder=folder, port=port)
    machine.shell("tee", f"{folder}/config.yml", stdin=config)
    if auth:
        line = f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()}\n"
        machine.shell("tee", f"{folder}/htpasswd", stdin=line)
    machine.shell("sh", "-s", stdin=START.format(folder=folder, port=port))
    return folder


@pytest.fixture(scope="module")
def registries(machine):
    """An open registry and one that asks for a password: (address, address)."""
    folders = [start_registry(machine, 5000, auth=False), start_registry(machine, 5001, auth=True)]
    yield "127.0.0.1:5000", "127.0.0.1:5001"
    for folder in folders:
        machine.shell("sh", "-c", f"kill $(cat {folder}/pid); rm -rf {folder}")


@pytest.fixture
def registry(registries):
    return registries[0]


@pytest.fixture
def locked_registry(box, registries):
    yield registries[1]
    box.try_docker("logout", registries[1])


def is_there(box, reference: str) -> bool:
    return box.try_docker("image", "inspect", reference).status == 0


@pytest.fixture
def make(box, residents):
    """`make(reference, text)`: an image with a layer that no other has, which prints `text`; gives its id."""

    def commit(reference: str, text: str) -> str:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("text")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        box.sdk.api.put_archive(residents["busybox"], "/", archive.getvalue())
        return box.docker("commit", "--change", 'CMD ["cat", "/text"]', residents["busybox"], reference)

    return commit


def test_push_and_pull_with_a_registry(box, registry, make, unique):
    reference = f"{registry}/{unique('team/app')}:v1"
    made = make(reference, reference)
    box.docker("push", "-q", reference)
    box.docker("rmi", reference)
    assert not is_there(box, reference)
    box.docker("pull", "-q", reference)
    assert box.image(reference)["Id"] == made
    assert box.docker("run", "--rm", reference) == reference


def test_registry_with_authentication_refuses_strangers(box, locked_registry, make, unique):
    reference = f"{locked_registry}/{unique('app')}:v1"
    make(reference, "secret")
    pushed = box.try_docker("push", reference)
    assert pushed.status == 1
    assert "no basic auth credentials" in pushed.both
    wrong = box.try_docker("login", "-u", USER, "--password-stdin", locked_registry, stdin="wrong")
    assert wrong.status == 1
    assert "401" in wrong.err


def test_push_and_pull_with_authentication(box, locked_registry, make, unique):
    reference = f"{locked_registry}/{unique('app')}:v1"
    made = make(reference, "secret")
    login = box.docker("login", "-u", USER, "--password-stdin", locked_registry, stdin=PASSWORD)
    assert "Login Succeeded" in login
    box.docker("push", "-q", reference)
    box.docker("rmi", reference)
    box.docker("pull", "-q", reference)
    assert box.image(reference)["Id"] == made
    box.docker("rmi", reference)
    box.docker("logout", locked_registry)
    refused = box.try_docker("pull", reference)
    assert refused.status == 1
    assert "no basic auth credentials" in refused.both


def test_push_and_pull_through_the_api(box, locked_registry, make, unique):
    reference = f"{locked_registry}/{unique('app')}"
    made = make(f"{reference}:v1", "by api")
    auth = {"username": USER, "password": PASSWORD}
    answers = [json.loads(line) for line in box.sdk.api.push(reference, "v1", auth_config=auth).splitlines()]
    assert not [answer["error"] for answer in answers if "error" in answer]
    box.sdk.images.remove(f"{reference}:v1")
    with pytest.raises(docker.errors.APIError, match="no basic auth credentials"):
        box.sdk.images.pull(reference, "v1")
    assert box.sdk.images.pull(reference, "v1", auth_config=auth).id == made


def test_run_pulls_what_is_missing(box, registry, make, unique):
    reference = f"{registry}/{unique('missing')}:v1"
    make(reference, "pulled")
    box.docker("push", "-q", reference)
    box.docker("rmi", reference)
    done = box.try_docker("run", "--rm", reference)
    assert succeed(done) == "pulled"
    assert f"Unable to find image '{reference}' locally" in done.err
    assert is_there(box, reference)  # the next run finds it


def test_tags_and_digests_agree(box, registry, make, unique):
    name = f"{registry}/{unique('digest')}"
    made = make(f"{name}:v1", "digest")
    box.docker("tag", f"{name}:v1", f"{name}:stable")
    digests = set()
    for tag in ("v1", "stable"):
        pushed = box.docker("push", f"{name}:{tag}")
        digests |= set(re.findall(r"digest: (sha256:[0-9a-f]{64})", pushed))
        digests.add(box.sdk.images.get_registry_data(f"{name}:{tag}").id)  # what the registry says
    assert len(digests) == 1
    by_digest = f"{name}@{digests.pop()}"
    assert box.image(f"{name}:v1")["RepoDigests"] == [by_digest]
    box.docker("rmi", f"{name}:v1", f"{name}:stable")
    box.docker("pull", "-q", by_digest)
    assert box.image(by_digest)["Id"] == made
    make(f"{name}:v1", "another")
    box.docker("push", "-q", f"{name}:v1")
    assert box.sdk.images.get_registry_data(f"{name}:v1").id != by_digest.split("@")[1]  # the tag moved
    box.docker("pull", "-q", by_digest)
    assert box.image(by_digest)["Id"] == made  # the digest cannot


def test_unknown_image_names_the_default_registry(box, unique):
    """Docker Hub is made unreachable in the guest, so that the answer is the same wherever the tests run."""
    hub = "registry-1.docker.io"
    box.shell("sh", "-c", f"cp /etc/hosts /run/hosts.before && echo 127.0.0.1 {hub} >> /etc/hosts")
    try:
        done = box.try_docker("run", "--rm", unique("no-such-image"))
    finally:
        box.shell("sh", "-c", "cat /run/hosts.before > /etc/hosts")
    assert done.status == 125
    assert f"https://{hub}/v2/" in done.err
    assert box.docker("info", "--format", "{{.IndexServerAddress}}") == "https://index.docker.io/v1/"
