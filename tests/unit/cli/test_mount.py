"""`hostvm mount add` around folders that are shared already; the agent is a list of what it was asked."""

from __future__ import annotations

import shlex
import sys
from types import SimpleNamespace

import pytest

from cli.commands import mount
from cli.manage import build_parser
from hostvm.errors import HostvmError, MachineError, SpecError
from hostvm.machines.change import note_booted
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, load_spec, render_spec
from hostvm.state import MachineState, save_state

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="making links takes rights there")


@pytest.fixture
def base(tmp_path):
    """A folder `me` with links in it."""
    base = tmp_path.resolve()
    for name in ("me/src", "data", "more"):
        (base / name).mkdir(parents=True)
    for name, leads in (("data", base / "data"), ("more", base / "more"), ("etc", "/etc")):
        (base / "me" / name).symlink_to(leads)
    return base


@pytest.fixture
def box():
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, MachineState("u", "m", "amd64", 2222, "qemu", "sha256:ab", "now"))
    return paths


@pytest.fixture
def agent(monkeypatch):
    """One that does what it is asked, but for what is in `refused`; `told` is what it then has of shares."""
    asked, refused, told = [], [], []

    def request(_run_dir, _service, *, timeout, do, **facts):
        asked.append(f"{do} {facts['source']}:{facts['target']}")
        if asked[-1] in refused:
            raise MachineError("the guest refuses")

    monkeypatch.setattr(mount, "request", request)
    monkeypatch.setattr(mount, "share_facts", lambda _: told)
    request.asked, request.refused, request.told = asked, refused, told
    return request


def add(*words):
    options = build_parser().parse_args(["mount", "add", *map(str, words)])
    options.machine = "box"
    return mount.add(options)


def targets(box):
    return {one.source: one.target for one in load_spec(box.spec).mounts}


def test_a_folder_by_a_link_is_not_lost_to_a_share_around_it(base, box, capsys):
    """As if they had come the other way round: the guest has the link, and the folder where it leads."""
    add(f"{base}/me/data")
    assert targets(box) == {f"{base}/me/data": f"{base}/me/data"}
    add(f"{base}/me")
    assert targets(box) == {f"{base}/me": f"{base}/me", f"{base}/me/data": f"{base}/data"}
    assert f"{base}/me/data is {base}/data there from the machine's next start on" in capsys.readouterr().err
    before = box.spec.read_text()
    add(f"{base}/me/data")
    assert box.spec.read_text() == before, "it is in the guest already"


def test_a_machine_that_runs_moves_it_first(base, box, agent):
    for name in ("data", "more"):
        add(f"{base}/me/{name}")
    agent.asked.clear()
    add(f"{base}/me")
    assert agent.asked == [
        f"rm {base}/me/data:{base}/me/data",
        f"add {base}/me/data:{base}/data",
        f"rm {base}/me/more:{base}/me/more",
        f"add {base}/me/more:{base}/more",
        f"add {base}/me:{base}/me",
    ]


@pytest.mark.parametrize("refused", ["add {0}/me:{0}/me", "add {0}/me/data:{0}/data"])
def test_one_that_refuses_has_all_as_it_was(base, box, agent, refused):
    add(f"{base}/me/data")
    before = box.spec.read_text()
    agent.asked.clear()
    agent.refused.append(refused.format(base))
    with pytest.raises(MachineError, match="the guest refuses"):
        add(f"{base}/me")
    assert agent.asked[-1] == f"add {base}/me/data:{base}/me/data"
    assert box.spec.read_text() == before


def test_a_folder_that_would_have_no_place_keeps_it(base, box, agent):
    add(f"{base}/me/etc")
    agent.asked.clear()
    with pytest.raises(SpecError, match="me would hide a folder that is shared") as caught:
        add(f"{base}/me")
    assert "me/etc leads to '/etc'" in caught.value.details
    assert (agent.asked, list(targets(box))) == ([], [f"{base}/me/etc"])


def test_so_does_one_whose_new_place_is_taken(base, box):
    add(f"{base}/me/data")
    add(f"{base}/more:{base}/data")
    with pytest.raises(SpecError, match=f"{base}/data in the guest is"):
        add(f"{base}/me")
    assert len(targets(box)) == 2


def test_what_is_hidden_all_the_same_is_told(base, box, agent, capsys):
    agent.told += [
        {"source": "/x", "target": f"{base}/me/x", "state": "failed", "why": "a link leads from there"},
        {"source": "/y", "target": f"{base}/me/y", "state": "mounted", "why": ""},
        {"source": "/z", "target": "/z", "state": "failed", "why": "of before"},
    ]
    add(f"{base}/me")
    said = capsys.readouterr().err
    assert "/x is not in the guest any more: a link leads from there" in said
    assert "/y is" not in said
    assert "/z is" not in said


@pytest.mark.parametrize(
    ("status", "booted", "late"),
    [("suspended", True, True), ("starting", True, True), ("stopped", True, False), ("starting", False, False)],
)
def test_a_share_that_a_machine_without_an_agent_keeps_is_not_called_gone(
    base, box, monkeypatch, capsys, status, booted, late
):
    """The next agent serves what the machine was started with."""
    add(f"{base}/me")
    box.run_dir.mkdir(parents=True, exist_ok=True)
    note_booted(box, load_spec(box.spec) if booted else MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=()))
    monkeypatch.setattr(mount, "observe", lambda _: SimpleNamespace(status=status))
    options = build_parser().parse_args(["mount", "rm", f"{base}/me"])
    options.machine = "box"
    capsys.readouterr()
    assert mount.remove(options) == 0
    assert targets(box) == {}
    said = capsys.readouterr().err
    assert f"{base}/me is not shared any more" in said
    assert ("until then: hostvm restart box" in said) == late


@pytest.mark.parametrize(
    ("words", "advised"),
    [
        (["rm", "/none"], "see what is: hostvm -m box mount ls"),
        (["add", "{base}/data:/mnt/me"], "or take that one away: hostvm -m box mount rm /mnt/me"),
    ],
)
def test_what_is_advised_is_of_the_machine_that_was_named(base, box, words, advised):
    """Or the default one would lose a folder of this name."""
    add(f"{base}/me:/mnt/me")
    options = build_parser().parse_args(["mount", words[0], words[1].format(base=base)])
    options.machine = "box"
    with pytest.raises(HostvmError) as caught:
        {"add": mount.add, "rm": mount.remove}[words[0]](options)
    assert caught.value.resolution.splitlines()[-1] == advised


def test_a_folder_that_is_told_to_be_shared_elsewhere_is_one_word(base, box):
    """With a blank it was two."""
    (base / "my data").mkdir()
    add(f"{base}/data:/taken")
    options = build_parser().parse_args(["mount", "add", f"{base}/my data:/taken"])
    options.machine = "box"
    with pytest.raises(SpecError) as caught:
        mount.add(options)
    first = caught.value.resolution.splitlines()[0].removeprefix("choose another place: ")
    assert shlex.split(first) == ["hostvm", "-m", "box", "mount", "add", f"{base}/my data:/some/where"]
