"""Real programs through the one door."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from hostvm import process, process_id
from hostvm.errors import HostvmError

pytestmark = pytest.mark.vm

PYTHON = sys.executable


def wait_until(condition, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_input_output_and_status():
    done = process.run(
        [PYTHON, "-c", "import sys; d=sys.stdin.buffer.read(); print(len(d)); sys.stderr.write('e'); sys.exit(3)"],
        stdin=bytes(300_000),
        check=False,
    )
    assert (done.status, done.stdout.strip(), done.stderr) == (3, b"300000", b"e")


def test_a_failure_is_an_error_that_can_be_pasted():
    with pytest.raises(HostvmError) as caught:
        process.run([PYTHON, "-c", "raise SystemExit('no luck')"])
    assert (
        caught.value.details
        == f"command: {PYTHON} -c 'raise SystemExit('\"'\"'no luck'\"'\"')'\nexit status 1\nno luck"
    )


def test_a_missing_program_is_named():
    with pytest.raises(HostvmError, match="cannot start no-such-program: No such file"):
        process.run(["/no-such-program"])


def test_a_time_out_kills_what_it_started_and_keeps_the_output(tmp_path):
    pids = tmp_path / "pids"
    program = (
        f"import subprocess,os,time; p=subprocess.Popen(['{PYTHON}','-c','import time; time.sleep(99)']);"
        f"print('so far', flush=True); open({str(pids)!r},'w').write(f'{{os.getpid()}} {{p.pid}}'); time.sleep(99)"
    )
    began = time.monotonic()
    with pytest.raises(HostvmError, match="did not finish within 1 s") as caught:
        process.run([PYTHON, "-c", program], timeout=1)
    assert time.monotonic() - began < 5
    assert "so far" in (caught.value.details or "")
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: process_id.identify(int(pid)) is None)


def test_a_block_that_is_left_ends_the_program(tmp_path):
    with process.running(
        [PYTHON, "-c", "print('hi', flush=True); import time; time.sleep(99)"], tmp_path / "l"
    ) as child:
        assert child.poll() is None
        assert child.wait(0.05) is None
        wait_until(lambda: (tmp_path / "l").read_text() == "hi\n")
    assert process_id.identify(child.pid) is None


def test_a_detached_program_has_no_terminal_and_is_reaped(tmp_path):
    log = tmp_path / "log"
    started = process.spawn_detached(
        [PYTHON, "-c", "import os,sys; print(os.getsid(0) == os.getpid(), sys.stdin.read()); sys.stdin.read()"], log
    )
    assert process_id.wait_gone(started, 10)
    assert not process_id.is_alive(started)
    assert log.read_text() == "True \n"
    assert log.stat().st_mode & 0o777 == 0o600
    wait_until(lambda: not Path(f"/proc/{started.pid}").exists())


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("ending", "crashed"), [("SIGSEGV", True), ("SIGABRT", True), ("SIGKILL", False), ("SIGTERM", False)]
)
def test_what_crashed_by_itself_is_told_from_what_was_killed(tmp_path, ending, crashed):
    code = f"import os, signal; os.kill(os.getpid(), signal.{ending})"
    started = process.spawn_detached([sys.executable, "-c", code], tmp_path / "log")
    assert process_id.wait_gone(started, 10)
    assert process.has_crashed(started) is crashed


def test_it_inherits_descriptors_it_is_given(tmp_path):
    reading, writing = os.pipe()
    started = process.spawn_detached(
        [PYTHON, "-c", f"import os; os.write({writing}, b'through')"], tmp_path / "log", pass_fds=[writing]
    )
    os.close(writing)
    assert os.read(reading, 100) == b"through"
    os.close(reading)
    assert process_id.wait_gone(started, 10)


def test_a_command_that_is_shown_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_hearers", [])
    shown = []
    process.show_commands(shown.append)
    folder = tmp_path / "a b"
    folder.mkdir()
    words = ["sh", "-c", 'printf "%s|" "$PWD" "$KIND" "$@"', "sh", "it's", "$HOME"]
    first = process.run(words, env={"KIND": "one two"}, cwd=folder)
    assert len(shown) == 1
    assert process.run(["sh", "-c", shown[0]], check=False).stdout == first.stdout
