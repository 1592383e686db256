"""A data disk that fills up: what `status` tells of it, and what follows a command that failed on a full one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import agent_main
from hostvm.agent.config import AgentConfig
from hostvm.errors import MachineError, SshError
from hostvm.guest import Completed
from hostvm.machines import observe, room
from hostvm.machines.observe import Observation, look_closely
from hostvm.machines.room import Explainer, Room, guest_room, way_out
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB, MIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState

SPEC = MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())
WAY_OUT = "hostvm prune --all box, or hostvm set box disk=20GiB"


def df(size, used, free):
    """What GNU df prints."""
    return Completed(0, f"  1B-blocks  Used  Avail\n{size} {used} {free}\n".encode(), b"")


class Guest:
    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def run(self, argv, *, timeout):
        self.asked.append((argv, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def paths():
    made = MachinePaths.of("box")
    made.folder.mkdir(parents=True)
    made.spec.write_text(render_spec(SPEC))
    return made


@pytest.mark.parametrize(
    ("used", "free", "nearly"),
    [
        (8 * GIB, 2 * GIB, False),
        (91 * GIB, 9 * GIB, True),
        (90 * GIB, 10 * GIB, False),
        (GIB, 512 * MIB, False),
        (GIB, 512 * MIB - 1, True),
    ],
)
def test_when_it_is_worth_a_word(used, free, nearly):
    found = Room(used + free + MIB, used, free)
    assert (found.nearly_full, found.full) == (nearly, False)


def test_what_is_read_of_df_and_what_is_not(paths, monkeypatch):
    guest = Guest(df(10, 6, 3))
    monkeypatch.setattr(room, "run_in_guest", lambda _, argv, *, timeout: guest.run(argv, timeout=timeout))
    assert guest_room(paths) == Room(10, 6, 3)
    for answer in (
        Completed(1, b"10 6 3\n", b"no such folder\n"),
        Completed(0, b"6 3\n", b""),
        Completed(0, b"- - -", b""),
    ):
        guest.answer = answer
        with pytest.raises(MachineError, match="tells no sizes"):
            guest_room(paths)


def test_the_way_out_by_engine():
    assert way_out("box", SPEC) == WAY_OUT
    plain = MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=(), engine="containerd")
    assert way_out("box", plain) == "hostvm set box disk=20GiB"


# ---- hostvm status


@pytest.fixture
def look(paths, monkeypatch):
    """`look_closely` at a machine whose guest answers so."""
    state = MachineState("u", "m", "amd64", 2222, "qemu", "sha256:ab", "now")
    driver = type("Driver", (), {"hardware": lambda _: None})()
    monkeypatch.setattr(observe, "machine_driver", lambda *_: driver)
    monkeypatch.setattr("hostvm.machines.change.pending", lambda *_: ())

    def run(answer, status="running"):
        guest = Guest(answer)
        monkeypatch.setattr(room, "run_in_guest", lambda _, argv, *, timeout: guest.run(argv, timeout=timeout))
        seen = look_closely(Observation(paths, status, SPEC, state, {"ready": True}))
        return dict(seen.lines()).get("room"), seen.room_facts(), seen.faults, len(guest.asked)

    return run


def test_status_tells_of_a_disk_that_is_nearly_full(look):
    line, facts, faults, _ = look(df(10 * GIB, 9 * GIB + 600 * MIB, 300 * MIB))
    assert line == f"300 MiB free of 10 GiB on the data disk: {WAY_OUT}"
    assert facts == {"size": 10 * GIB, "used": 9 * GIB + 600 * MIB, "free": 300 * MIB, "nearly_full": True}
    assert faults == []


def test_status_says_nothing_of_one_with_room(look):
    line, facts, _, _ = look(df(10 * GIB, GIB, 9 * GIB))
    assert line is None
    assert facts["nearly_full"] is False


@pytest.mark.parametrize("status", ["starting", "suspended", "paused", "stalled", "crashed"])
def test_a_guest_that_does_not_run_is_not_asked(look, status):
    assert look(df(10, 10, 0), status) == (None, None, [], 0)


def test_a_guest_that_does_not_answer_is_no_fault(look):
    assert look(SshError("gone", None, None))[:3] == (None, None, [])


# ---- a command that failed


def test_why_a_command_failed(paths):
    guest = Guest(df(10 * GIB, 10 * GIB, 0))
    assert Explainer(paths).why_failed(guest) == f"the data disk of machine box is full: {WAY_OUT}"
    assert guest.asked[0][1] <= 2.0, "its user waits"
    for answer in (df(10 * GIB, 9 * GIB, MIB), Completed(1, b"", b"")):
        assert Explainer(paths).why_failed(Guest(answer)) == ""


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (df(10 * GIB, GIB, 9 * GIB), 3),
        (df(10 * GIB, 9 * GIB + 600 * MIB, 300 * MIB), 6),
        (df(10 * GIB, 10 * GIB, 0), 6),
        (Completed(1, b"", b""), 6),
    ],
    ids=["much room", "nearly full", "full", "unknown"],
)
def test_who_fails_again_and_again_costs_a_guest_with_much_room_one_question_in_ten_seconds(paths, answer, asked):
    now = 1000.0
    explainer, guest = Explainer(paths, lambda: now), Guest(answer)
    for now in (1000.0, 1001.0, 1009.0, 1011.0, 1020.0, 1100.0):  # noqa: B007 - the clock's
        assert ("is full" in explainer.why_failed(guest)) == (answer.stdout.split()[-1:] == [b"0"])
    assert len(guest.asked) == asked


def test_the_agent_is_told_how_to_explain(paths):
    words = ("key", "host", "", str(paths.console))
    config = AgentConfig("box", str(paths.run_dir), str(paths.folder), str(Path(paths.agent_log)), 1, *words)
    assert WAY_OUT in agent_main.compose(config).explain(Guest(df(10 * GIB, 10 * GIB, 0)))
