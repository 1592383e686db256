"""Docker clients of this computer, real ones, on a machine's engine: contexts, API streams, SDKs, test frameworks."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from machines import hostvm, run, succeed

pytestmark = pytest.mark.vm


def test_a_machine_is_a_docker_context(machine, client_program):
    context = f"hostvm-{machine.name}"
    listed = succeed(run(client_program, "context", "ls", "--format", "{{.Name}} {{.DockerEndpoint}}"))
    assert f"{context} {machine.docker_host}" in listed.splitlines()
    shown = run(client_program, "--context", context, "info", "--format", "{{.KernelVersion}}")
    assert succeed(shown) == machine.shell("uname", "-r")
    used = succeed(run(client_program, "context", "ls", "--format", "{{.Name}} {{.Current}}")).splitlines()
    assert "default true" in used, "the one in use is not taken without asking"


def test_the_context_in_use_is_taken_when_asked_and_given_back(machine, client_program, unique):
    name = unique("ctx")
    succeed(hostvm("create", name, "--memory", "512MiB"))
    try:
        succeed(hostvm("context", "use", machine.name))
        assert succeed(run(client_program, "info", "--format", "{{.KernelVersion}}")) == machine.shell("uname", "-r")
        succeed(hostvm("context", "use", name))
        listed = {one["machine"]: one for one in json.loads(succeed(hostvm("context", "ls", "--json")))}
        assert (listed[name]["current"], listed[machine.name]["current"]) == (True, False)
    finally:
        succeed(hostvm("rm", "--force", name))
    names = succeed(run(client_program, "context", "ls", "--format", "{{.Name}} {{.Current}}")).splitlines()
    assert f"hostvm-{name} true" not in names
    assert f"hostvm-{machine.name} true" in names
    succeed(run(client_program, "context", "use", "default"))


def test_a_launcher_is_a_docker_client(machine, tmp_path, client_program):
    words = ["shim", "install", machine.name, "--dir", str(tmp_path)]
    path = os.pathsep.join(["/usr/bin", "/bin"])
    if shutil.which("docker", path=path) is None:
        succeed(hostvm(*words, env={"PATH": path}))
    succeed(hostvm(*words, "--force"))
    env = {"PATH": f"{tmp_path}{os.pathsep}{path}", "HOSTVM_CLIENT": "auto"}
    assert succeed(run("sh", "-c", "docker info --format '{{.KernelVersion}}'", env=env)) == machine.shell(
        "uname", "-r"
    )
    assert run("sh", "-c", "docker run --rm busybox sh -c 'echo out; echo err >&2; exit 5'", env=env).status == 5
    assert succeed(run("docker-compose", "version", "--short", env=env)).startswith(("2.", "v2."))
    # The launcher first on PATH and a native client behind it: the native one is used, the launcher never meets itself.
    env["PATH"] = os.pathsep.join([str(tmp_path), str(Path(client_program).parent), path])
    shown = succeed(run("docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}}", env=env)).split()
    assert shown[0] == succeed(run(client_program, "--version")).split()[2].rstrip(",")
    assert shown[1] == machine.docker("version", "--format", "{{.Server.Version}}")
    succeed(hostvm("shim", "rm", "--dir", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_the_systems_socket_is_a_link_to_the_machines(machine, tmp_path, client_program):
    link = tmp_path / "docker.sock"
    bins = str(tmp_path / "bin")
    succeed(hostvm("shim", "install", machine.name, "--dir", bins, "--socket", str(link), "--yes"))
    shown = succeed(run(client_program, "-H", f"unix://{link}", "info", "--format", "{{.KernelVersion}}"))
    assert shown == machine.shell("uname", "-r")
    succeed(hostvm("shim", "rm", "--dir", bins, "--socket", str(link)))
    assert not link.is_symlink()
