"""What the agent is put together of for docker clients: folders that they name, containers of another architecture."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli import agent_main, background
from cli.agent_main import bring_emulator, compose
from hostvm import emulators
from hostvm.agent.config import AgentConfig
from hostvm.agent.relay import Passage
from hostvm.errors import HostvmError
from hostvm.more_disks import Disk
from hostvm.paths import MachinePaths, cache
from hostvm.process_id import ProcessId
from hostvm.shares.model import Mount
from hostvm.shares.named import ENGINE_SOCK
from hostvm.shares.service import ShareService
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state
from runtime.docker.foreign import ForeignService

AGENT = AgentConfig("tmp-aaaaaaaaaaaa", "/r", "/h", "/l", 1, "/k", "key", "", "/c")
START = b"POST /containers/web/start HTTP/1.1\r\n\r\n"
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


@pytest.fixture
def shown(monkeypatch):
    """What the service for another architecture is shown of requests."""
    told = []
    monkeypatch.setattr(ForeignService, "before", lambda self, data: told.append((self, data)))
    return told


@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.parametrize(("arch", "other"), [("amd64", "arm64"), ("arm64", "amd64")])
def test_requests_at_docker_sock_are_looked_at_for_the_other_architecture(made, shown, engine, arch, other):
    parts = compose(made(replace(BOX, engine=engine), arch))
    (service,) = foreign_of(parts)
    assert service.describe()["arch"] == other
    assert parts.examine()(START) == Passage(START)
    assert shown == [(service, START)]


def test_so_they_are_in_a_machine_that_was_woken(made, shown):
    parts = compose(replace(made(), woken=True))
    parts.examine()(START)
    assert shown == [(foreign_of(parts)[0], START)]


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
    assert parts.examine()(START) == Passage(START)


def create(source):
    body = json.dumps({"HostConfig": {"Binds": [f"{source}:/w"]}}).encode()
    return b"POST /v1.45/containers/create HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")
@pytest.mark.parametrize("change", [{}, {"emulate": ()}, {"engine": "podman"}])
def test_a_folder_that_is_not_shared_is_refused_at_docker_sock(made, monkeypatch, shown, change):
    config = made(replace(BOX, disks=(Disk("scratch", GIB, "/srv/scratch"),), **change))
    monkeypatch.setattr(ShareService, "mounted", lambda _: [Mount("/data", "/shared")])
    for named, option in (("box", " -m box"), ("default", "")):
        examine = compose(replace(config, name=named)).examine
        refused = examine()(create("/other"))
        assert (refused.on, refused.last) == (b"", False)
        assert f"hostvm mount add /other{option}\\nor, if".encode() in refused.back
        for path, becomes in (("/srv/scratch/x", "/srv/scratch/x"), ("/proc", "/proc"), ("/data/x", "/shared/x")):
            assert examine()(create(path)) == Passage(create(becomes))


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_the_socket_of_this_computer_is_the_engines_own_in_a_container(made, shown, engine):
    config = made(replace(BOX, engine=engine))
    passed = compose(config).examine()(create(config.engine_sock))
    assert passed == Passage(create(ENGINE_SOCK))


def test_an_engine_without_docker_clients_has_nobody_refused(made):
    assert compose(made(replace(BOX, engine="containerd"))).examine()(create("/other")) == Passage(create("/other"))


@pytest.mark.parametrize(
    ("status", "stderr", "why"),
    [(0, b"", ""), (0, b"a warning\n", ""), (1, b"hostvm: no network\n", "hostvm: no network"), (-9, b"", "status -9")],
)
def test_the_emulator_is_brought_by_a_process_of_its_own(monkeypatch, status, stderr, why):
    ran = []

    def run(argv, *, timeout, env, check, tied):
        ran.append(argv[1:])
        return SimpleNamespace(status=status, stderr=stderr)

    monkeypatch.setattr(agent_main.process, "run", run)
    assert bring_emulator("box") == why
    assert ran == [["-P", "-m", "cli.background", "emulate", "box"]]


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


def test_a_machine_goes_with_its_owner_and_not_for_want_of_descriptors(monkeypatch):
    answers = [OSError(24, "Too many open files"), False, True]
    removed = []

    def wait_gone(*_):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(agent_main, "_AGAIN_SECONDS", 0)
    monkeypatch.setattr(agent_main.process_id, "wait_gone", wait_gone)

    def spawn_detached(argv, log, *, env):
        assert argv[1:3] == ["-P", "-m"]
        removed.append((argv[-1], len(answers)))

    monkeypatch.setattr(agent_main.process, "spawn_detached", spawn_detached)
    agent_main.go_with(ProcessId(17, 1.0), AGENT)
    assert removed == [("tmp-aaaaaaaaaaaa", 0)]
