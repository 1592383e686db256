"""`-it` as a user sees it: keys, sizes, colours, detaching, exit statuses, and what remains when a terminal is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pexpect
import psutil
import pytest
from machines import HOSTVM, alive, eventually, run

pytestmark = pytest.mark.vm

_PROMPT = "box# "


@pytest.fixture
def at_terminal(machine):
    """`at_terminal("exec", "-it", ...)` is `hostvm docker exec -it ...` on a terminal of 30 rows and 100 columns."""
    children = []

    def spawn(*words, env=None):
        client = env or {"HOSTVM_CLIENT": "guest"}
        env = {**os.environ, **client, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        argv = ["-m", machine.name, "docker", *words]
        child = pexpect.spawn(str(HOSTVM), argv, env=env, timeout=60, dimensions=(30, 100))
        children.append(child)
        return child

    yield spawn
    for child in children:
        child.close(force=True)


@pytest.fixture
def sh(at_terminal, residents):
    """A shell in a container that runs anyhow."""
    child = at_terminal("exec", "-it", "-e", f"PS1={_PROMPT}", residents["busybox"], "sh", "-i")
    child.expect_exact(_PROMPT)
    return child


def status_of(child) -> int:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


def clients_in(machine) -> list[str]:
    """docker clients that run in the guest, by their command lines."""
    script = "for pid in /proc/[0-9]*; do tr '\\0' ' ' < $pid/cmdline 2>/dev/null && echo; done; true"
    return [line for line in machine.shell("sh", "-c", script).splitlines() if line.startswith("docker ")]


def test_a_shell_its_size_keys_and_exit_status(sh):
    sh.sendline("stty size; test -t 0 && test -t 2 && echo term''inal")
    sh.expect_exact("30 100\r\n")
    sh.expect_exact("terminal\r\n")
    sh.expect_exact(_PROMPT)
    # A shell of its own: in an interactive one only the loop's `sleep` would be told of the new size.
    sh.sendline("sh -c \"trap 'stty size' WINCH; echo re''ady; while :; do sleep 0.1; done\"")
    sh.expect_exact("ready\r\n")
    sh.setwinsize(41, 123)
    sh.expect_exact("41 123\r\n")
    sh.send("\x03")  # Ctrl-C
    sh.expect_exact(_PROMPT)
    sh.sendline("trap 'echo caught quit' QUIT; sh -c 'trap \"echo inner; exit\" QUIT; echo up''; sleep 60 & wait'")
    sh.expect_exact("up\r\n")
    sh.send("\x1c")  # Ctrl-\
    sh.expect_exact("inner\r\n")
    sh.expect_exact(_PROMPT)
    sh.sendline("sleep 61")
    sh.expect_exact("sleep 61\r\n")
    sh.send("\x1a")  # Ctrl-Z: the shell's job in the container, not our client
    sh.expect_exact("Stopped")
    sh.expect_exact(_PROMPT)
    sh.sendline("fg")
    sh.expect_exact("sleep 61\r\n")
    sh.send("\x03")
    sh.expect_exact(_PROMPT)
    sh.sendline("exit 42")
    assert status_of(sh) == 42


def test_bytes_of_a_modern_terminal_pass_both_ways(sh):
    sh.sendline("printf '\\033[38;5;208m\\033[48;2;1;2;3m\\033[?2004h\\342\\234\\223\\360\\237\\220\\263\\033[0m'")
    sh.expect_exact(b"\x1b[38;5;208m\x1b[48;2;1;2;3m\x1b[?2004h\xe2\x9c\x93\xf0\x9f\x90\xb3\x1b[0m")
    pasted = b"\x1b[200~\xc3\xa9 \xe2\x9c\x93\x1b[201~"
    sh.sendline(f"stty raw -echo; echo re''ady; head -c {len(pasted)} | od -An -v -tx1; stty sane")
    sh.expect_exact("ready")
    sh.send(pasted)
    for byte in pasted:
        sh.expect_exact(f"{byte:02x}")
    sh.sendline("echo $TERM; exit")
    sh.expect("xterm")
    assert status_of(sh) == 0


def test_full_screen_programs(sh):
    sh.sendline("vi /tmp/written")
    sh.expect_exact("written")
    sh.send("ihello from vi")
    sh.expect_exact("hello from vi")
    sh.send("\x1b")  # vi waits for what may follow an escape
    sh.expect_exact("- /tmp/written")
    sh.send(":wq\r")
    sh.expect_exact(_PROMPT)
    sh.sendline("cat /tmp/written")
    sh.expect_exact("\nhello from vi\r\n")
    sh.expect_exact(_PROMPT)
    sh.sendline("top -d 1")
    sh.expect_exact("COMMAND")
    sh.send("q")
    sh.expect_exact(_PROMPT)
    sh.sendline("seq 1 500 | less")
    sh.expect_exact("25")
    sh.send("G")
    sh.expect_exact("500")
    sh.send("q")
    sh.expect_exact(_PROMPT)
    sh.send("\x04")  # Ctrl-D
    assert status_of(sh) == 0


def test_detach_keys_leave_the_container_running(box, at_terminal, unique):
    name = unique("detach")
    child = at_terminal("run", "-it", "--name", name, "-e", f"PS1={_PROMPT}", "busybox", "sh")
    child.expect_exact(_PROMPT)
    child.send("\x10\x11")  # Ctrl-P Ctrl-Q
    child.expect(pexpect.EOF)
    child.wait()
    assert box.state(name) == "running"
    again = at_terminal("attach", name)
    again.send("\r")
    again.expect_exact(_PROMPT)
    again.sendline("exit 7")
    assert status_of(again) == 7


@pytest.mark.parametrize("hears", [False, True])
def test_a_lost_terminal_leaves_no_client_in_the_guest(box, at_terminal, unique, hears):
    """A container whose first process is a shell ignores the hang-up, as on Linux, and runs on; others end with it."""
    name = unique("lost")
    init = ("--init",) if hears else ()
    child = at_terminal("run", "-it", "--rm", *init, "--name", name, "-e", f"PS1={_PROMPT}", "busybox", "sh")
    child.expect_exact(_PROMPT)
    with contextlib.suppress(pexpect.ExceptionPexpect):  # our client may live on until the guest's has ended
        child.close(force=False)  # as when the window is closed: hang-up, and the terminal is gone
    eventually(lambda: not clients_in(box), "the docker client in the guest is gone", 30)
    if hears:
        eventually(lambda: box.try_docker("inspect", name).status == 1, "the container of --rm is gone", 30)


@pytest.mark.slow
@pytest.mark.parametrize("client", ["guest", "host"])
def test_a_lost_terminal_of_exec_leaves_no_client(box, at_terminal, host_client, unique, client):
    """Here and in the guest. The program itself runs on, as with docker on Linux (docs/limitations.md)."""
    env = {"HOSTVM_CLIENT": "guest"} if client == "guest" else host_client
    name = unique("window")
    box.docker("run", "-d", "--init", "--name", name, "busybox", "sleep", "3602")
    child = at_terminal("exec", "-it", "-e", f"PS1={_PROMPT}", name, "sh", "-i", env=env)
    child.expect_exact(_PROMPT)
    assert bool(clients_in(box)) == (client == "guest")
    here = [child.pid, *(one.pid for one in psutil.Process(child.pid).children(recursive=True))]
    with contextlib.suppress(pexpect.ExceptionPexpect):
        child.close(force=False)
    eventually(lambda: not clients_in(box), "the docker client in the guest is gone", 30)
    eventually(lambda: child.closed or not child.isalive(), "ours has ended", 30)
    eventually(lambda: not any(map(alive, here)), "and so has what it began", 30)
    assert "sh -i" in box.docker("top", name)
    box.docker("rm", "-f", name)
    assert name not in box.docker("ps", "-a", "--format", "{{.Names}}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_of_the_client_reach_the_container(box, number):
    name = {signal.SIGTERM: "TERM", signal.SIGHUP: "HUP", signal.SIGINT: "INT"}[number]
    script = f"trap 'echo got {name}; exit 9' {name}; echo up; while :; do sleep 0.1; done"
    words = [str(HOSTVM), "-m", box.name, "docker", "run", "--rm", "busybox", "sh", "-c", script]
    env = {**os.environ, "HOSTVM_CLIENT": "guest"}
    with subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            assert client.stdout.readline() == "up\n"
            client.send_signal(number)
            assert client.wait(60) == 9
            assert client.stdout.readline() == f"got {name}\n"
        finally:
            client.kill()  # one that did not hear the signal would be waited for without end


def test_input_ends_and_pipes_closed_early(box, residents):
    there = residents["busybox"]
    assert box.docker("exec", "-i", there, "wc", "-c", stdin=b"x" * 1_000_000) == "1000000"
    script = f"HOSTVM_CLIENT=guest {HOSTVM} -m {box.name} docker exec {there} yes | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = run("bash", "-c", script, limit=60)
    assert done.out.splitlines() == ["y", "y", "141"]
    assert done.err == ""
    eventually(lambda: not clients_in(box), "the docker client in the guest is gone", 30)
    # A program of exec outlives its client, as it does on Linux, and this one keeps a processor busy.
    box.docker("exec", there, "killall", "yes")
