"""Registries and logins of every engine, in the machines of test_engines.py.

They leave images behind: by the name of this file they come after the tests there, which look at what a machine holds.
"""

from __future__ import annotations

import json

import docker
import pytest
from engine_rig import BUSYBOX, TABLE  # helpers beside this file
from key_ring import make_ring
from machines import folders_of, hostvm
from servers import HOST, OneImage, image_parts, make_authority, serve


@pytest.mark.slow
def test_a_login_outlives_a_restart(rig, free_port):
    if rig.engine == "containerd" or TABLE["registry of its own, `hostvm registry`"][rig.kind].startswith("no"):
        pytest.skip("ctr has none; docker without root's rights does not reach the registry that this one logs in to")
    image, password = f"localhost:{free_port}/own:1", "correct horse"
    words = ("registry", "start", rig.name, "--port", str(free_port), "--auth", "alice", "--password-stdin")
    try:
        rig.ok(*words, stdin=f"{password}\n")
        rig.ok("docker", "login", "-u", "alice", "--password-stdin", f"localhost:{free_port}", stdin=password)
        rig.ok("docker", "tag", "busybox", image)
        rig.ok("docker", "push", image)
        rig.ok("docker", "rmi", image)
        rig.ok("restart")
        rig.ok("docker", "pull", image)
        rig.ok(rig.engine, "rmi", image)
        client = docker.DockerClient(base_url=rig.facts()["docker_host"], timeout=60)
        if rig.kind == "podman":  # without root's rights its service is another user; as docker's, told with each pull
            client.images.pull(f"localhost:{free_port}/own", "1")
            rig.ok("docker", "rmi", image)
        client.close()
        folder, file = {
            "docker": ("/var/lib/hostvm/root/.docker", "config.json"),
            "podman": ("/var/lib/hostvm/logins", "auth.json"),
        }[rig.engine]
        kept = ("shell", "--", "stat", "-c", "%a %u", folder, f"{folder}/{file}")
        assert rig.ok(*kept).splitlines() == ["700 0", "600 0"]
        rig.ok(rig.engine, "logout", f"localhost:{free_port}")
        refused = rig.words(rig.engine, "pull", image)
        assert refused.status != 0, str(refused)
    finally:
        hostvm("registry", "rm", rig.name, "--force")


@pytest.mark.slow
def test_registries_of_machine_yaml_count_for_ctr(rig, free_port):
    if rig.engine != "containerd":
        pytest.skip("the others pull from this computer in the test below, docker in test_names_settings.py")
    here = f"localhost:{free_port}"
    try:
        rig.ok("registry", "start", rig.name, "--port", str(free_port))
        rig.ok("ctr", "images", "tag", BUSYBOX, f"{here}/library/bb:1")
        rig.ok("ctr", "images", "push", f"{here}/library/bb:1")
        # Docker Hub has no such image.
        for wish in ({"mirrors": [f"http://{here}"]}, {"default": f"http://{here}"}, {"insecure": [here]}):
            rig.ok("set", f"registries={json.dumps(wish)}", "--restart")
            image = f"{here}/library/bb:1" if "insecure" in wish else "docker.io/library/bb:1"
            rig.words("ctr", "images", "rm", image)
            rig.ok("ctr", "images", "pull", image)
            assert rig.ok("ctr", "run", "--rm", image, "pulled", "echo", "hi") == "hi"
    finally:
        rig.words("set", "registries={}")
        hostvm("registry", "rm", rig.name, "--force")
        rig.words("ctr", "images", "rm", f"{here}/library/bb:1", "docker.io/library/bb:1")


@pytest.fixture(scope="module")
def registries(tmp_path_factory):
    """Registries of this computer by what machine.yaml is to say of them, and the file of the one's authority."""
    authority, context = make_authority(tmp_path_factory.mktemp("authority"), "own")
    parts = image_parts()
    wishes = {"mirrors": None, "default": None, "insecure": None, "ca": context, "nothing": context}
    made = {wish: serve(context, OneImage, parts=parts) for wish, context in wishes.items()}
    yield made, authority
    for server in made.values():
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_registries_of_machine_yaml_count_for_every_engine(rig, registries):
    made, authority = registries
    places = {wish: f"{HOST}:{server.server_address[1]}" for wish, server in made.items()}

    # Until its layers are gone, for which ctr does not wait by itself.
    remove = ("ctr", "images", "rm", "--sync") if rig.engine == "containerd" else (rig.engine, "rmi")

    def pull(image: str):
        return rig.words(*(("ctr", "images", "pull") if rig.engine == "containerd" else (rig.engine, "pull")), image)

    def asked(image: str, wish: str) -> None:
        """Its configuration and each layer are that registry's: nothing of another pull is left."""
        seen = made[wish].RequestHandlerClass.seen
        seen.clear()
        done = pull(image)
        assert done.status == 0, f"{wish}: {done}"
        assert len({path for path in seen if "/blobs/" in path}) == 3, f"{wish}: {seen}"
        rig.ok(*remove, image)

    hub = "docker.io/library/hubs-own:1"  # Docker Hub has no such image
    try:
        wanted = {
            "mirrors": [f"http://{places['mirrors']}"],
            "insecure": [places["insecure"]],
            "ca": {places["ca"]: str(authority)},
        }
        rig.ok("set", f"registries={json.dumps(wanted)}", "--restart")
        asked(hub, "mirrors")
        asked(f"{places['insecure']}/team/app:1", "insecure")
        asked(f"{places['ca']}/team/app:1", "ca")
        refused = pull(f"{places['nothing']}/team/app:1")
        assert refused.status != 0, str(refused)
        assert "certificate signed by unknown authority" in refused.both
        rig.ok("set", f"registries={json.dumps({'default': 'http://' + places['default']})}", "--restart")
        asked(hub, "default")
    finally:
        rig.ok("set", "registries={}", "--restart")  # else the next test's Docker Hub is still that registry


@pytest.mark.slow
def test_a_mirror_of_its_own_is_asked_first_until_it_stops(rig, registries, free_port):
    """Mirrored is a registry of this computer, which the guest reaches by its gateway."""
    server = registries[0]["mirrors"]
    seen, image = server.RequestHandlerClass.seen, "docker.io/library/hubs-own:1"  # Docker Hub has no such image
    upstream = f"http://{HOST}:{server.server_address[1]}"
    start = ("registry", "start", rig.name, "--port", str(free_port))
    pull, remove = (
        (("ctr", "images", "pull"), ("ctr", "images", "rm"))
        if rig.engine == "containerd"
        else ((rig.engine, "pull"), (rig.engine, "rmi"))
    )
    try:
        if TABLE["registry of its own, `hostvm registry`"][rig.kind].startswith("no"):
            refused = hostvm(*start, "--mirror", upstream)
            assert refused.status != 0, str(refused)
            assert "being rootless, does not reach the guest's own ports" in refused.err
            assert "this one's engine, being rootless, does not reach it" in rig.words(*start).err
            return
        service = ("shell", "--", "s6-svstat", "-o", "pid", f"/run/service/{rig.engine}")
        before = rig.ok(*service)
        seen.clear()
        assert f"the engine asks it before {upstream}" in rig.words(*start, "--mirror", upstream).err
        rig.ok(*pull, image)
        assert len({path for path in seen if "/blobs/" in path}) == 3, "its configuration and two layers"
        if rig.engine == "podman":
            client = docker.DockerClient(base_url=rig.facts()["docker_host"], timeout=60)
            rig.ok(*remove, image)
            client.images.pull("docker.io/library/hubs-own", "1")  # by the service, which keeps what it has read
            client.close()
        rig.ok(*remove, image)
        rig.ok("registry", "stop", rig.name)
        seen.clear()
        gone = rig.words(*pull, image)
        assert gone.status != 0, str(gone)
        assert f"localhost:{free_port}" not in gone.both, "the mirror is not asked any more"
        assert seen == []
        assert rig.ok(*service) == before, "the engine was not started anew"
    finally:
        hostvm("registry", "rm", rig.name, "--force")


@pytest.mark.slow
def test_podmans_logins_are_kept_by_this_computers_helper(rig, free_port, tmp_path, monkeypatch):
    if rig.engine != "podman":
        pytest.skip("docker's are in test_engine_settings.py, and ctr has none")
    kept, variables = make_ring(tmp_path)
    here, other, password = f"localhost:{free_port}", f"127.0.0.1:{free_port}", "correct horse"
    image, login = f"{here}/own:1", ("login", "-u", "alice", "--password-stdin")
    words = ("registry", "start", rig.name, "--port", str(free_port), "--auth", "alice", "--password-stdin")

    def logins() -> dict:
        """What the guest's own file holds."""
        return json.loads(rig.words("shell", "--", "cat", "/var/lib/hostvm/logins/auth.json").out or "{}")

    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    try:
        rig.ok(*words, stdin=f"{password}\n")
        rig.ok("restart")
        said = rig.words("podman", *login, here, stdin=password)
        assert said.status == 0, str(said)
        assert json.loads(kept.read_text()) == {"ServerURL": here, "Username": "alice", "Secret": password}
        rig.ok("podman", "tag", "busybox", image)
        rig.ok("podman", "push", image)
        rig.ok("podman", "rmi", image)
        rig.ok("podman", "pull", image)
        assert not logins().get("auths"), "nowhere in the guest"
        rig.ok("podman", "rmi", image)
        rig.ok("podman", "logout", here)
        assert not kept.exists()
        refused = rig.words("podman", "pull", image)
        assert refused.status != 0, str(refused)
        assert password not in said.both + (folders_of(rig.name)[0] / "agent.log").read_text()

        # One that is named for this registry alone; docker's words.
        (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {here: "testring"}}))
        rig.ok("restart")
        rig.ok("docker", *login, here, stdin=password)
        assert json.loads(kept.read_text())["Secret"] == password
        rig.ok("docker", "pull", image)
        rig.ok("docker", *login, other, stdin=password)
        found = logins()
        assert found["credHelpers"] == {here: "hostvm"}
        assert set(found["auths"]) == {other}, "of the other registry, in the guest as ever"
        rig.ok("docker", "rmi", image)
        for one in (here, other):
            rig.ok("docker", "logout", one)
        assert not kept.exists()
    finally:
        monkeypatch.undo()
        hostvm("registry", "rm", rig.name, "--force")
