"""Docker clients of this computer, real ones, on a machine's engine: contexts, API streams, SDKs, test frameworks."""

from __future__ import annotations

import json

import pytest
from machines import hostvm, run, succeed

pytestmark = pytest.mark.vm


def test_a_machine_is_a_docker_context(machine, client_program):
    context = f"hostvm-{machine.name}"
    listed = succeed(run(client_program, "context", "ls", "--format", "{{.Name}} {{.DockerEndpoint}}"))
    assert f"{context} {machine.docker_host}" in listed.splitlines()
    shown = run(client_program, "--context", context, "info", "--format", "{{.KernelVersion}}")
    assert succeed(shown) == machine.shell("uname", "-r")
    assert succeed(run(client_program, "context", "show")) == "default", "the one in use is not taken without asking"


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
