"""Registries and logins of every engine but docker's, in the machines of test_engines.py.

They leave images behind: by the name of this file they come after the tests there, which look at what a machine holds.
"""

from __future__ import annotations

import json

import docker
import pytest
from engine_rig import BUSYBOX  # helpers beside this file
from machines import hostvm


@pytest.mark.slow
def test_a_login_outlives_a_restart(rig, free_port):
    if rig.engine != "podman":
        pytest.skip("docker's are in test_registry_command.py, and ctr has none")
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
        rig.ok("podman", "rmi", image)
        client = docker.DockerClient(base_url=rig.facts()["docker_host"], timeout=60)
        if not rig.rootless:  # its service is another user, and is told the login with each pull
            client.images.pull(f"localhost:{free_port}/own", "1")
            rig.ok("docker", "rmi", image)
        client.close()
        kept = ("shell", "--", "stat", "-c", "%a %u", "/var/lib/hostvm/logins", "/var/lib/hostvm/logins/auth.json")
        assert rig.ok(*kept).splitlines() == ["700 0", "600 0"]
        rig.ok("podman", "logout", f"localhost:{free_port}")
        refused = rig.words("podman", "pull", image)
        assert refused.status != 0, str(refused)
    finally:
        hostvm("registry", "rm", rig.name, "--force")


@pytest.mark.slow
def test_registries_of_machine_yaml_count_for_ctr(rig, free_port):
    if rig.engine != "containerd":
        pytest.skip("the others' are in test_docker_overview_registry.py and tests/unit")
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
