"""`daemon:` in machine.yaml for real: containerd's image store, live-restore, limits. One machine with all of them."""

from __future__ import annotations

import json
import os

import pytest
import requests
import yaml
from key_ring import make_ring
from machines import ENGINE_ANEW, folders_of, hostvm, running_machine, succeed, unused_port

from hostvm.accel import host_arch

pytestmark = pytest.mark.vm

DAEMON = {
    "features": {"containerd-snapshotter": True},
    "live-restore": True,
    "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 4096, "Hard": 8192}},
    "log-opts": {"max-file": "9"},
}
NATIVE = host_arch()
OTHER = {"amd64": "arm64", "arm64": "amd64"}[NATIVE]
KERNELS = {"amd64": "x86_64", "arm64": "aarch64"}
ACCEPT = {
    "Accept": "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
}
PASSWORD = "correct horse"
ENDS_LATE = 'trap "sleep 22; echo ended late; exit 0" TERM; echo up; while :; do sleep 0.2; done'
ENDS_IN_ORDER = 'trap "echo ended in order; exit 0" TERM; echo up; while :; do sleep 0.2; done'


@pytest.fixture(scope="module")
def port():
    """Of the machine's registry, which is its default one."""
    return unused_port()


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """See `key_ring.make_ring`."""
    return make_ring(tmp_path_factory.mktemp("ring"))


@pytest.fixture(scope="module")
def own(names_port, port, ring, folders):
    name = f"daemon-{os.getpid()}"
    succeed(hostvm("create", name, "--cpus", "1", "--memory", "1GiB", "--mount", "none", "--names", names_port))
    file = folders_of(name)[0] / "machine.yaml"
    # A text, and a mapping, as one writes them by hand.
    mounts = [f"{folders['kept']}:/written/kept:ro", {"source": str(folders["used"]), "kind": "sftp"}]
    wanted = {"daemon": DAEMON, "registries": {"default": f"http://localhost:{port}"}, "mounts": mounts}
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **wanted}))
    checked = hostvm("config", "check", name)
    assert 'daemon.log-opts.max-file: "9" instead of hostvm\'s "3"' in checked.both
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in ring[1].items():
            patch.setenv(variable, value)
        with running_machine(name) as made:
            made.hostvm("image", "base", "busybox:latest")
            yield made


def test_the_engine_has_them_and_warns_of_nothing(own):
    facts = own.sdk.info()
    assert not facts.get("Warnings")
    assert (facts["Driver"], facts["LiveRestoreEnabled"]) == ("overlayfs", True)
    assert ["driver-type", "io.containerd.snapshotter.v1"] in facts["DriverStatus"]
    shown = own.docker("run", "--name", "limits", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn")
    assert shown.split() == ["4096", "8192"]
    assert own.container("limits")["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-file": "9", "max-size": "10m"},
    }


def test_folders_are_shared_as_written_by_hand(own, folders):
    rows = json.loads(own.hostvm("mount", "ls", "--json"))
    told = {row["source"]: (row["target"], row["kind"], row["readonly"], row["state"]) for row in rows}
    kept, work = (str(folders[name]) for name in ("kept", "used"))
    assert told == {kept: ("/written/kept", "nfs", True, "mounted"), work: (work, "sftp", False, "mounted")}
    words = ("run", "--rm", "-v", f"{kept}:/k", "-v", f"{work}:/w", "busybox", "sh", "-c")
    said = own.docker(*words, "cat /k/file /w/file; echo written > /w/new; ! touch /k/new")
    assert said == "keptused"
    assert (folders["used"] / "new").read_text() == "written\n"
    assert not (folders["kept"] / "new").exists()


@pytest.fixture(scope="module")
def pushed(own, port, tmp_path_factory):
    """The digest of an image that was built, is in the default registry, and is kept as `built:kept` beside it."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "Dockerfile").write_text('FROM busybox\nRUN echo built > /built\nCMD ["cat", "/built"]\n')
    image = f"localhost:{port}/library/built:1"
    own.docker("build", "-t", image, str(folder))
    own.hostvm("registry", "start", own.name, "--port", str(port))
    own.docker("push", "-q", image)
    (digest,) = own.image(image)["RepoDigests"]
    assert own.image(image)["Id"] == digest.partition("@")[2], "ids are manifests' digests in this store"
    own.docker("tag", image, "built:kept")
    own.docker("rmi", image)
    return digest


def test_containerds_image_store_builds_pushes_pulls_and_runs(own, pushed):
    own.docker("pull", "-q", pushed)
    assert own.docker("run", "--rm", pushed) == "built"


@pytest.mark.usefixtures("pushed")
def test_names_without_a_registry_mean_the_default_one_and_the_hub_is_shut_off(own):
    own.docker("pull", "-q", "built:1")
    assert own.docker("run", "--rm", "built:1") == "built"
    missing = own.try_docker("pull", "no-such-thing")
    assert missing.status == 1
    assert "127.0.0.1:443: connect: connection refused" in missing.err


@pytest.mark.slow
@pytest.mark.usefixtures("pushed")
def test_one_build_for_two_architectures_is_one_index_in_the_registry(own, port, tmp_path):
    library = f"localhost:{port}/library"
    own.hostvm("image", "base", "busybox", "--platform", f"linux/{OTHER}", "--tag", f"{library}/base:{OTHER}")
    own.docker("tag", "busybox", f"{library}/base:{NATIVE}")
    for arch in (NATIVE, OTHER):
        own.docker("push", "-q", f"{library}/base:{arch}")
    own.docker("buildx", "imagetools", "create", "-t", f"{library}/base:1", *(f"{library}/base:{a}" for a in KERNELS))
    (tmp_path / "Dockerfile").write_text(f"FROM {library}/base:1\nRUN uname -m > /made-by\n")
    both = ",".join(f"linux/{arch}" for arch in KERNELS)
    own.docker("buildx", "build", "--platform", both, "--push", "-t", f"{library}/both:1", str(tmp_path))
    listed = requests.get(f"http://localhost:{port}/v2/library/both/manifests/1", headers=ACCEPT, timeout=10).json()
    built = {one["platform"]["architecture"] for one in listed["manifests"]}
    assert built - {"unknown"} == set(KERNELS), "unknown: what attests how it was made"
    for arch, kernel in KERNELS.items():
        assert (
            own.docker("run", "--rm", "--platform", f"linux/{arch}", f"{library}/both:1", "cat", "/made-by") == kernel
        )


@pytest.mark.usefixtures("pushed")
def test_a_login_is_kept_by_this_computers_helper_and_nowhere_in_the_guest(own, port, ring):
    own.hostvm("registry", "stop", own.name)
    words = ("registry", "start", own.name, "--auth", "alice", "--password-stdin")
    succeed(hostvm(*words, stdin=f"{PASSWORD}\n"))
    there = f"localhost:{port}"
    refused = own.try_docker("pull", f"{there}/library/built:1")
    assert "no basic auth credentials" in refused.err
    said = own.try_docker("login", "-u", "alice", "--password-stdin", there, stdin=PASSWORD)
    assert said.status == 0, str(said)
    assert "WARNING" not in said.both
    assert json.loads(ring[0].read_text()) == {"ServerURL": there, "Username": "alice", "Secret": PASSWORD}
    own.docker("pull", "-q", f"{there}/library/built:1")
    kept = json.loads(own.shell("cat", "/var/lib/hostvm/root/.docker/config.json"))
    assert (kept["auths"], kept["credsStore"]) == ({there: {}}, "hostvm")
    own.docker("logout", there)
    assert not ring[0].exists()
    log = folders_of(own.name)[0] / "agent.log"
    assert PASSWORD not in said.both + log.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("pushed")
def test_a_helper_for_one_registry_is_enough_and_keeps_no_other_login(own, port, ring):
    there, other = f"localhost:{port}", f"127.0.0.1:{port}"
    config = ring[0].with_name("config.json")
    words = ("registry", "start", own.name, "--auth", "alice", "--password-stdin")
    own.hostvm("registry", "stop", own.name)
    succeed(hostvm(*words, stdin=f"{PASSWORD}\n"))
    before = config.read_text()
    config.write_text(json.dumps({"credHelpers": {there: "testring"}}))
    try:
        own.hostvm("restart", own.name)
        own.docker("login", "-u", "alice", "--password-stdin", there, stdin=PASSWORD)
        assert json.loads(ring[0].read_text())["Secret"] == PASSWORD
        own.docker("pull", "-q", f"{there}/library/built:1")
        own.docker("login", "-u", "alice", "--password-stdin", other, stdin=PASSWORD)
        kept = json.loads(own.shell("cat", "/var/lib/hostvm/root/.docker/config.json"))
        assert kept["credHelpers"] == {there: "hostvm"}
        assert set(kept["auths"][other]) == {"auth"}, "of the other registry, in the guest as ever"
        assert not kept["auths"].get(there)
        for one in (there, other):
            own.docker("logout", one)
        assert not ring[0].exists()
    finally:
        config.write_text(before)
        own.hostvm("restart", own.name)


@pytest.mark.slow
@pytest.mark.usefixtures("pushed")
def test_containers_live_while_the_engine_starts_anew_and_end_in_order_with_the_machine(own):
    own.docker("run", "-d", "--name", "lives", "--restart", "unless-stopped", "busybox", "sh", "-c", ENDS_IN_ORDER)
    before = own.container("lives")["State"]["Pid"]
    own.shell("sh", "-c", ENGINE_ANEW)
    assert own.container("lives")["State"]["Pid"] == before
    assert own.docker("logs", "lives") == "up"

    own.docker("run", "-d", "--name", "late", "--stop-timeout", "60", "busybox", "sh", "-c", ENDS_LATE)
    own.hostvm("restart", own.name)
    assert own.docker("logs", "late").splitlines() == ["up", "ended late"]
    logs = own.docker("logs", "lives").splitlines()
    assert logs[:2] == ["up", "ended in order"]
    assert own.docker("run", "--rm", "built:kept") == "built"
    settings = json.loads(own.shell("cat", "/run/hostvm/seed/engine/daemon.json"))
    assert settings["live-restore"] is True, "the stop took it back for the engine's end alone"
