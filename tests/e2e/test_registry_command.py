"""`hostvm registry`: one machine's registry from its start to its end, asked from the guest and from this computer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest
import requests
from layers import archive
from machines import HOSTVM, eventually, hostvm, run, small_machine, succeed, unused_port

pytestmark = pytest.mark.vm

PART = os.urandom(64 * 1024)
DIGEST = "sha256:" + hashlib.sha256(PART + PART).hexdigest()
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def port():
    return unused_port()


@pytest.fixture(scope="module")
def own(names_port):
    with small_machine(f"reg-{os.getpid()}", "--names", names_port) as made:
        yield made


@pytest.fixture(scope="module")
def url(own, port):
    """The registry's, from this computer; it runs."""
    own.hostvm("registry", "start", own.name, "--port", str(port))
    return f"http://localhost:{port}"


def status(machine) -> dict:
    return json.loads(hostvm("registry", "status", machine.name, "--json").out)


def load(machine, images: bytes) -> None:
    for line in machine.sdk.api.load_image(images):
        assert "error" not in line, line


def digest_of(url: str, name: str, tag: str) -> str:
    found = requests.head(f"{url}/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST}, timeout=10)
    assert found.status_code == 200
    return found.headers["Docker-Content-Digest"]


def test_push_in_the_guest_and_look_from_this_computer(own, url, port):
    own.docker("tag", "busybox", f"localhost:{port}/library/bb:1")
    own.docker("push", "-q", f"localhost:{port}/library/bb:1")
    assert requests.get(f"{url}/v2/_catalog", timeout=10).json() == {"repositories": ["library/bb"]}
    facts = status(own)
    assert (facts["status"], facts["repositories"]) == ("running", ["library/bb"])
    assert facts["bytes"] > 500_000
    assert f"127.0.0.1:{port}" in {row["host"] for row in json.loads(own.hostvm("port", "ls", own.name, "--json"))}

    assert "runs already" in hostvm("registry", "start", own.name).err
    refused = hostvm("registry", "start", own.name, "--tls")
    assert refused.status == 1
    assert f"hostvm registry stop {own.name}" in refused.err


@pytest.mark.slow
def test_twenty_images_go_and_come_four_at_a_time(own, url, port):
    """All have one layer in common, which the first four send at once."""
    names = [f"localhost:{port}/many/{number}:1" for number in range(20)]
    load(own, archive(names, common=256 << 10, own=16 << 10))
    ids = {name: own.image(name)["Id"] for name in names}

    def move(way: str, reference: str) -> None:
        client = docker.DockerClient(base_url=own.docker_host, timeout=120)
        with contextlib.closing(client):
            for line in getattr(client.api, way)(reference, stream=True, decode=True):
                assert "error" not in line, line

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: move("push", name), names))
    found = requests.get(f"{url}/v2/_catalog", timeout=10).json()["repositories"]
    assert len([name for name in found if name.startswith("many/")]) == len(names)
    digests = {name: own.image(name)["RepoDigests"][0] for name in names}
    for name in names:
        own.sdk.api.remove_image(name)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: move("pull", digests[name]), names))
    assert {name: own.image(digests[name])["Id"] for name in names} == ids, "by their digests"


def test_bytes_that_are_not_what_their_digest_says_are_refused(own, url, port):
    wrong = "sha256:" + "0" * 64
    begun = requests.post(f"{url}/v2/layered/blobs/uploads/", timeout=10)
    refused = requests.put(begun.headers["Location"], params={"digest": wrong}, data=PART, timeout=10)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["code"] == "DIGEST_INVALID"

    name = f"localhost:{port}/layered"
    load(own, archive([f"{name}:1"], common=256 << 10, own=16 << 10))
    own.docker("push", "-q", f"{name}:1")
    manifest = requests.get(f"{url}/v2/layered/manifests/1", headers={"Accept": MANIFEST}, timeout=10).json()
    layer = manifest["layers"][1]["digest"].removeprefix("sha256:")
    blob = f"/var/lib/hostvm/registry/data/docker/registry/v2/blobs/sha256/{layer[:2]}/{layer}/data"
    for image in own.sdk.api.images(name):
        own.sdk.api.remove_image(image["Id"], force=True)
    own.shell("sh", "-c", f"cp {blob} /var/tmp/whole && printf damaged | dd of={blob} seek=100 bs=1 conv=notrunc")
    failed = own.try_docker("pull", f"{name}:1")
    assert failed.status == 1
    assert "verification failed" in failed.err
    assert own.sdk.api.images(name) == [], "nothing of it was kept"
    own.shell("mv", "/var/tmp/whole", blob)
    own.docker("pull", "-q", f"{name}:1")


def test_a_full_registry_says_so_and_takes_more_when_there_is_room(own, url):
    """Its folder is a file system of 2 MiB for a while; that of the images that it had lies below."""
    own.hostvm("registry", "stop", own.name)
    own.shell("mount", "-t", "tmpfs", "-o", "size=2m", "small", "/var/lib/hostvm/registry/data")
    own.hostvm("registry", "start", own.name)
    data = os.urandom(4 << 20)
    begun = requests.post(f"{url}/v2/large/blobs/uploads/", timeout=10)
    full = requests.patch(begun.headers["Location"], data=data, timeout=60)
    assert full.status_code == 500
    look = hostvm("registry", "status", own.name)
    assert "the data disk is nearly full" in look.err
    assert f"hostvm registry gc {own.name}" in look.err

    own.hostvm("registry", "stop", own.name)
    own.shell("umount", "/var/lib/hostvm/registry/data")
    own.hostvm("registry", "start", own.name)
    begun = requests.post(f"{url}/v2/large/blobs/uploads/", timeout=10)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    assert requests.put(begun.headers["Location"], params={"digest": digest}, data=data, timeout=60).status_code == 201
    assert requests.delete(f"{url}/v2/large/blobs/{digest}", timeout=10).status_code == 202
    own.hostvm("registry", "gc", own.name)


@pytest.mark.slow
def test_dockers_push_to_a_full_registry_ends_and_its_user_is_told_why(own, url, port):
    """docker tries five times, some 50 s in all, then tells a status that says nothing."""
    image = f"localhost:{port}/large:1"
    load(own, archive([image], common=256 << 10, own=4 << 20))
    own.hostvm("registry", "stop", own.name)
    own.shell("mount", "-t", "tmpfs", "-o", "size=2m", "small", "/var/lib/hostvm/registry/data")
    try:
        own.hostvm("registry", "start", own.name)
        words = (str(HOSTVM), "-m", own.name, "docker", "push", image)
        failed = run(*words, env={"HOSTVM_CLIENT": "guest"}, limit=240)
        assert failed.status == 1, str(failed)
        assert "500 Internal Server Error" in failed.err
        assert f"the registry of machine {own.name} is full" in failed.err
        assert f"hostvm registry gc {own.name}" in failed.err
    finally:
        own.hostvm("registry", "stop", own.name)
        own.shell("umount", "/var/lib/hostvm/registry/data")
        own.hostvm("registry", "start", own.name)
    own.docker("push", "-q", image)
    digest = digest_of(url, "large", "1")
    assert requests.delete(f"{url}/v2/large/manifests/{digest}", timeout=10).status_code == 202
    own.hostvm("registry", "gc", own.name)
    own.docker("rmi", image)


PUSH_AND_KILL = """\
cd /var/lib/hostvm/registry/data/docker/registry/v2
docker push "$1" > /dev/null 2>&1 &
client=$!
until [ -n "$(find repositories/killed/_uploads -name data -size +1024k 2> /dev/null)" ]; do
    kill -0 $client || exit 9
    busybox usleep 20000
done
s6-svc -p /run/service/registry # takes no more: else it may have the layer before the engine knows of that end
kill -9 $client
wait $client
echo $?
sleep 2
s6-svc -c /run/service/registry
"""


@pytest.mark.slow
def test_a_push_that_was_killed_in_a_layer_is_repeated(own, url, port):
    image, there = f"localhost:{port}/killed", f"{url}/v2/killed/manifests"
    load(own, archive([f"{image}:1"], common=64 << 10, own=48 << 20))
    made = own.image(f"{image}:1")["Id"]
    assert own.shell("sh", "-c", PUSH_AND_KILL, "push", f"{image}:1") == "137"
    assert requests.head(f"{there}/1", headers={"Accept": MANIFEST}, timeout=10).status_code == 404
    blobs = "/var/lib/hostvm/registry/data/docker/registry/v2/blobs"
    assert own.shell("find", blobs, "-name", "data", "-size", "+20480k") == "", "it was in the midst of the layer"

    own.docker("push", "-q", f"{image}:1")
    digest = digest_of(url, "killed", "1")
    own.docker("rmi", f"{image}:1")
    own.docker("pull", "-q", f"{image}@{digest}")
    assert own.image(f"{image}@{digest}")["Id"] == made
    own.docker("rmi", f"{image}@{digest}")
    assert requests.delete(f"{there}/{digest}", timeout=10).status_code == 202
    own.hostvm("registry", "gc", own.name)


def test_an_upload_goes_on_after_the_machine_was_off(own, url, port):
    begun = requests.post(f"{url}/v2/parts/blobs/uploads/", timeout=10)
    sent = requests.patch(begun.headers["Location"], data=PART, timeout=10)
    assert sent.headers["Range"] == f"0-{len(PART) - 1}"

    own.hostvm("stop", own.name)
    off = hostvm("registry", "start", own.name)
    assert off.status == 1
    assert f"machine {own.name} is not running" in off.err
    assert f"hostvm start {own.name}" in off.err
    look = hostvm("registry", "status", own.name)
    assert look.status == 1
    assert "until the machine starts" in look.out
    own.hostvm("start", own.name)

    assert requests.get(sent.headers["Location"], timeout=10).headers["Range"] == f"0-{len(PART) - 1}"
    more = requests.patch(sent.headers["Location"], data=PART, timeout=10)
    done = requests.put(more.headers["Location"], params={"digest": DIGEST}, timeout=10)
    assert done.status_code == 201, done.text
    assert requests.get(f"{url}/v2/parts/blobs/{DIGEST}", timeout=10).content == PART + PART
    own.docker("rmi", f"localhost:{port}/library/bb:1")
    own.docker("pull", "-q", f"localhost:{port}/library/bb:1")


def test_what_no_image_needs_is_freed(own, url):
    kept = digest_of(url, "library/bb", "1")
    before = status(own)["bytes"]
    done = json.loads(own.hostvm("registry", "gc", own.name, "--json"))
    assert done["blobs"] == 1
    assert before - done["bytes"] == done["freed"] >= 2 * len(PART)
    assert requests.head(f"{url}/v2/parts/blobs/{DIGEST}", timeout=10).status_code == 404
    assert digest_of(url, "library/bb", "1") == kept

    assert requests.delete(f"{url}/v2/library/bb/manifests/{kept}", timeout=10).status_code == 202
    done = json.loads(own.hostvm("registry", "gc", own.name, "--json"))
    assert done["freed"] > 500_000
    assert done["blobs"] == 3
    own.docker("push", "-q", url.removeprefix("http://") + "/library/bb:1")


def test_only_its_user_gets_in_and_only_by_tls(own, url, port):
    own.hostvm("registry", "stop", own.name)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/v2/", timeout=10)
    words = ("registry", "start", own.name, "--auth", "alice", "--password-stdin", "--tls", "--json")
    facts = json.loads(succeed(hostvm(*words, stdin=f"{PASSWORD}\n")))
    assert PASSWORD not in json.dumps(facts)
    there, asked = f"https://127.0.0.1:{port}/v2/", {"verify": facts["ca"], "timeout": 10}
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(there, timeout=10)
    answers = [requests.get(there, auth=auth, **asked) for auth in (None, ("alice", "wrong"), ("alice", PASSWORD))]
    assert [answer.status_code for answer in answers] == [401, 401, 200]

    image = f"localhost:{port}/library/bb:1"
    assert "no basic auth credentials" in own.try_docker("pull", image).err
    login = ("login", "-u", "alice", "--password-stdin", f"localhost:{port}")
    wrong = own.try_docker(*login, stdin="wrong")
    assert wrong.status == 1
    assert "login attempt to" in wrong.err  # the engine takes localhost for insecure, and tells of its try without TLS
    own.docker(*login, stdin=PASSWORD)
    own.docker("pull", "-q", image)
    own.docker("logout", f"localhost:{port}")


def test_a_port_that_is_taken_here_is_told_and_nothing_is_started(own, url, port):
    own.hostvm("registry", "stop", own.name)
    before = status(own)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        refused = hostvm("registry", "start", own.name, "--port", str(taken))
    assert refused.status == 1
    assert f"port {taken} of this computer is taken" in refused.err
    assert f"hostvm registry start {own.name} --port {taken + 1}" in refused.err
    after = status(own)
    assert (after["status"], after["address"]) == ("stopped", before["address"])


UPSTREAM = """\
cd /run && export REGISTRY_HTTP_ADDR=127.0.0.1:$1
export REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/var/lib/hostvm/registry/data
echo 'version: 0.1' > upstream.yml && echo 'storage: {filesystem: {}}' >> upstream.yml
setsid docker-registry serve upstream.yml < /dev/null > upstream.log 2>&1 &
echo $! > upstream.pid
until nc 127.0.0.1 $1 < /dev/null; do busybox usleep 100000; done
"""


def test_a_mirror_is_asked_first_and_keeps_what_it_fetched(own, url, port):
    """Mirrored is another registry over the same images: `docker pull bb:1` means library/bb of Docker Hub."""
    own.hostvm("registry", "stop", own.name)
    upstream = f"http://127.0.0.1:{port + 1 if port < 65535 else port - 1}"
    start = ("registry", "start", own.name, "--mirror", upstream, "--no-auth", "--no-tls")
    unreachable = hostvm(*start)
    assert unreachable.status == 1
    assert "connection refused" in unreachable.err
    assert status(own)["status"] == "stopped"

    own.shell("sh", "-c", UPSTREAM, "upstream", upstream.rpartition(":")[2])
    own.hostvm(*start)

    def mirrors() -> list[str]:
        return own.sdk.info()["RegistryConfig"]["Mirrors"] or []

    eventually(lambda: mirrors() == [f"http://localhost:{port}/"], "the engine knows the mirror")
    own.docker("pull", "-q", "bb:1")
    own.shell("sh", "-c", "kill $(cat /run/upstream.pid)")
    own.docker("rmi", "bb:1")
    own.docker("pull", "-q", "bb:1")
    assert status(own)["repositories"] == ["library/bb"]
    assert "is a mirror" in hostvm("registry", "gc", own.name).err
    own.hostvm("registry", "stop", own.name)
    eventually(lambda: mirrors() == [], "the engine has forgotten the mirror")


def test_all_of_it_is_deleted_when_that_is_meant(own, url):
    refused = hostvm("registry", "rm", own.name)
    assert refused.status == 2
    assert f"hostvm registry rm --force {own.name}" in refused.err
    assert json.loads(own.hostvm("registry", "rm", "--force", own.name, "--json"))["freed"] > 500_000
    own.shell("test", "!", "-e", "/var/lib/hostvm/registry")
    facts = status(own)
    assert (facts["status"], facts["wanted"], facts["repositories"]) == ("stopped", False, [])
