"""What the agent is put together of for containers of another architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli import agent_main, background
from cli.agent_main import bring_emulator, compose
from hostvm import emulators
from hostvm.agent.config import AgentConfig
from hostvm.errors import HostvmError
from hostvm.paths import MachinePaths, cache
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state
from runtime.docker.foreign import ForeignService

BOX = MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())


@pytest.fixture
def made():
    """Makes a machine; gives what its agent is told."""

    def make(spec=BOX, arch="amd64"):
        paths = MachinePaths.of("box")
        paths.folder.mkdir(parents=True)
        paths.spec.write_text(render_spec(spec))
        save_state(paths, MachineState("u", "m", arch, 1, "qemu", "sha256:0", "now"))
        return AgentConfig(
            "box", str(paths.run_dir), str(paths.folder), "/log", 1, "/key", "host", "/run/docker.sock", "/console",
            engine=spec.engine,
        )  # fmt: skip

    return make


def foreign_of(parts):
    return [one for one in parts.services if isinstance(one, ForeignService)]


@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.parametrize(("arch", "other"), [("amd64", "arm64"), ("arm64", "amd64")])
def test_requests_at_docker_sock_are_looked_at_for_the_other_architecture(made, engine, arch, other):
    parts = compose(made(replace(BOX, engine=engine), arch))
    (service,) = foreign_of(parts)
    assert service.describe()["arch"] == other
    assert parts.before_request == service.before


def test_so_they_are_in_a_machine_that_was_woken(made):
    parts = compose(replace(made(), woken=True))
    assert parts.before_request == foreign_of(parts)[0].before


def test_one_that_is_kept_warm_lies_elsewhere(made, tmp_path):
    config = made()
    Path(config.home).rename(tmp_path / ".warm")
    parts = compose(replace(config, home=str(tmp_path / ".warm")))
    assert any(isinstance(service, ForeignService) for service in parts.services)


def test_a_damaged_state_keeps_no_agent_from_a_machine_that_runs(made):
    config = made()
    MachinePaths.of("box").state.write_text("{")
    assert not any(isinstance(service, ForeignService) for service in compose(config).services)


@pytest.mark.parametrize("change", [{"emulate": ()}, {"emulate": ("arm64",)}, {"engine": "containerd"}])
def test_a_list_and_an_engine_without_docker_clients_need_no_look(made, change):
    parts = compose(made(replace(BOX, **change)))
    assert foreign_of(parts) == []
    assert parts.before_request(b"POST /containers/web/start HTTP/1.1\r\n") is None


@pytest.mark.parametrize(
    ("status", "stderr", "why"),
    [(0, b"", ""), (0, b"a warning\n", ""), (1, b"hostvm: no network\n", "hostvm: no network"), (-9, b"", "status -9")],
)
def test_the_emulator_is_brought_by_a_process_of_its_own(monkeypatch, status, stderr, why):
    ran = []

    def run(argv, *, timeout, check, tied):
        ran.append(argv[1:])
        return SimpleNamespace(status=status, stderr=stderr)

    monkeypatch.setattr(agent_main.process, "run", run)
    assert bring_emulator("box") == why
    assert ran == [["-m", "cli.background", "emulate", "box"]]


def test_one_that_takes_too_long_is_told(monkeypatch):
    def run(argv, **options):
        raise HostvmError("python did not finish within 1800 s")

    monkeypatch.setattr(agent_main.process, "run", run)
    assert bring_emulator("box") == "python did not finish within 1800 s"


def test_that_process_provides_the_other_architecture(made, monkeypatch, capsys):
    made()
    asked = []
    monkeypatch.setattr(emulators, "provide_emulators", lambda *words: asked.append(words[:4]))
    assert background.main(["emulate", "box"]) == 0
    assert asked == [(MachinePaths.of("box").run_dir, ("arm64",), "amd64", cache())]

    def fail(*words):
        raise HostvmError("the mirror is not reached")

    monkeypatch.setattr(emulators, "provide_emulators", fail)
    assert background.main(["emulate", "box"]) == 1
    assert capsys.readouterr().err == "hostvm: the mirror is not reached\n"
