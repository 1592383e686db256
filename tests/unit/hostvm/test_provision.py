"""`provision:` and `env:`: what may be written, what the guest gets, and who runs what. Real ones: tests/e2e."""

from __future__ import annotations

import hashlib

import pytest

from hostvm.agent.provision import Provisioner
from hostvm.errors import MachineError, SpecError
from hostvm.guest import Completed
from hostvm.provision import Script, seed_scripts
from hostvm.spec import parse_text, render_spec

TABLE = b"system boot aa\nuser once bb\nsystem once cc\n"


def test_what_is_wrong_is_told_with_its_path():
    text = """
env: {"A B": x, PORT: 80, TWO: "a\\nb"}
provision:
- {mode: system}
- {script: "", when: never}
- {file: here.sh}
- {script: a, file: /b}
- {colour: red}
"""
    with pytest.raises(SpecError) as caught:
        parse_text(text, "machine.yaml")
    told = caught.value.details
    for part in (
        "line 2: env.'A B': is no name of a variable",
        "line 2: env.PORT: 80 must be a text; write it in quotes",
        "line 2: env.TWO: a b has a line end",
        "line 4: provision[0]: needs either script or file",
        'line 5: provision[1].script: "" is empty',
        "line 5: provision[1].when: never must be one of: boot, once",
        "line 6: provision[2].file: here.sh must be the absolute path of a file",
        "line 7: provision[3]: needs either script or file",
        "line 8: provision[4].colour: unknown key; known ones are script, file, mode, when",
    ):
        assert part in told


def test_what_is_written_is_read_back():
    spec = parse_text('env: {A: b}\nprovision: [{script: "a\\n", mode: user}, {file: /x y, when: once}]', "x")
    assert spec.env == {"A": "b"}
    assert spec.provision == (Script("a\n", mode="user"), Script(file="/x y", when="once"))
    assert parse_text(render_spec(spec), "again") == spec


def test_the_seed_holds_each_script_and_a_table(tmp_path):
    (tmp_path / "two.sh").write_bytes(b"#!/bin/bash\nexit\n")
    files = seed_scripts((Script("one"), Script(file=str(tmp_path / "two.sh"), mode="user", when="once")))
    assert files["provision/0"] == b"one"
    assert files["provision/1"] == b"#!/bin/bash\nexit\n"
    digests = [hashlib.sha256(files[f"provision/{number}"]).hexdigest() for number in (0, 1)]
    assert files["provision/table"].decode() == f"system boot {digests[0]}\nuser once {digests[1]}\n"
    assert seed_scripts(()) == {}


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"provision\[1\].file: .*none cannot be read"):
        seed_scripts((Script("x"), Script(file=str(tmp_path / "none"))))
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        seed_scripts((Script(file=str(tmp_path / "large")),))


class Process:
    def __init__(self, output, status):
        self.output, self.status = output, status

    def close_stdin(self):
        pass

    def read_stdout(self, size):
        piece, self.output = self.output, b""
        return piece

    def wait(self):
        return self.status

    def close(self):
        pass


class Guest:
    """Scripts end with the statuses of their numbers."""

    def __init__(self, **statuses):
        self.statuses = statuses
        self.ran, self.marked = [], False

    def run(self, argv, **_):
        if argv[0] == "touch":
            self.marked = True
        return Completed(0, TABLE, b"")

    def stream(self, argv, env):
        number = argv[4]
        self.ran.append((number, *argv[5:], env))
        return Process(f"said by {number}\n".encode(), self.statuses.get(f"s{number}", 0))


def test_each_mode_runs_its_own_and_the_engine_waits_for_the_system_ones(tmp_path):
    log = tmp_path / "provision.log"
    provisioner, guest, said = Provisioner("ci", log, {"A": "b"}), Guest(), []
    provisioner.run("system", guest, said.append)
    assert [row[:3] for row in guest.ran] == [("0", "boot", "aa"), ("2", "once", "cc")]
    assert guest.ran[0][3] == {"A": "b"}
    assert guest.marked
    provisioner.run("user", guest, said.append)
    assert guest.ran[2][:3] == ("1", "once", "bb")
    assert said == ["provision 1 of 3 (system)", "provision 3 of 3 (system)", "provision 2 of 3 (user)"]
    assert log.read_text().count("said by") == 3


def test_the_first_that_fails_is_the_last_and_is_not_run_again(tmp_path):
    provisioner, guest = Provisioner("ci", tmp_path / "provision.log", {}), Guest(s0=3)
    for _ in range(2):
        with pytest.raises(MachineError) as caught:
            provisioner.run("system", guest, lambda _: None)
    assert caught.value.brief == (
        "the script provision[0] of machine ci failed with status 3; the engine was not started"
    )
    assert "said by 0" in caught.value.details
    assert "hostvm logs --provision ci" in caught.value.resolution
    assert len(guest.ran) == 1
    assert not guest.marked
