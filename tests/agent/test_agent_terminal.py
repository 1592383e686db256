from __future__ import annotations

import signal
import termios
import time

import pexpect
import psutil
import pytest
from agent_rig import ENVIRONMENT, has_ended, until


@pytest.fixture
def spawn(request):
    """A client on a terminal of its own, in a shell that stays when the client is gone."""
    shells = []

    def start(agent, mode, *words, size=(30, 90)):
        shell = pexpect.spawn(
            "dash",  # which, unlike bash, leaves a terminal as a killed program left it
            env={**ENVIRONMENT, "PS1": "shell> ", "TERM": "xterm-256color"},
            timeout=10,
            dimensions=size,
        )
        shells.append(shell)
        shell.expect_exact("shell> ")
        shell.before_attributes = termios.tcgetattr(shell.child_fd)
        quoted = " ".join("'" + str(word).replace("'", "'\\''") + "'" for word in agent.argv(mode, *words))
        shell.sendline(quoted)
        return shell

    yield start
    for shell in shells:
        shell.close(force=True)


def is_raw(shell) -> bool:
    return not termios.tcgetattr(shell.child_fd)[3] & (termios.ICANON | termios.ECHO)


def client_of(shell) -> psutil.Process:
    """The client itself, not the child that watches over its terminal."""
    return until(lambda: next(iter(psutil.Process(shell.pid).children()), None))


def assert_restored(shell) -> None:
    until(lambda: not is_raw(shell))
    assert termios.tcgetattr(shell.child_fd)[:4] == shell.before_attributes[:4]
    shell.sendline("stty -a; echo E'N'D")
    shell.expect_exact("END")
    words = shell.before.decode().replace(";", " ").split()
    assert {"echo", "icanon", "opost"} <= set(words)
    assert not {"-echo", "-icanon", "-opost"} & set(words)


def test_terminal_raw_then_restored(agent, spawn):
    shell = spawn(agent, "tty", "sh", "-c", "stty size; echo $TERM; cat")
    shell.expect_exact("30 90\r\n")
    shell.expect_exact("xterm-256color\r\n")
    assert is_raw(shell)
    shell.send("hello\r")
    shell.expect_exact("hello\r\nhello\r\n")
    shell.send("\x04")
    shell.expect_exact("shell> ")
    assert_restored(shell)
    assert not psutil.Process(shell.pid).children()


def test_auto_gives_a_terminal_only_at_one(agent, spawn):
    shell = spawn(agent, "auto", "sh", "-c", "test -t 0 && test -t 1 && echo terminal")
    shell.expect_exact("terminal\r\n")
    assert agent.run("sh", "-c", "test -t 0 || test -t 1 || echo none", mode="auto").stdout == b"none\n"


def test_keys_are_not_touched(agent, spawn):
    shell = spawn(agent, "tty", "sh", "-c", "stty raw -echo; echo r''eady; dd bs=1 count=8 2>/dev/null | od -An -tx1")
    shell.expect_exact("ready")
    shell.send(b"\x03\x1a\x11\x13\r\n\xff\x1b")
    shell.expect_exact("03 1a 11 13 0d 0a ff 1b")


def test_ctrl_c_goes_to_the_program(agent, spawn):
    shell = spawn(agent, "tty", "sh", "-c", "trap 'echo caught; exit 3' INT; echo up; while :; do sleep 0.05; done")
    shell.expect_exact("up\r\n")
    shell.send("\x03")
    shell.expect_exact("caught\r\n")
    shell.expect_exact("shell> ")
    shell.sendline("echo status $?")
    shell.expect_exact("status 3")


def test_new_size_is_passed_on(agent, spawn):
    shell = spawn(agent, "tty", "sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done")
    shell.expect_exact("up\r\n")
    shell.setwinsize(41, 123)
    shell.expect_exact("41 123\r\n")
    shell.send("\x03")
    shell.expect_exact("shell> ")


def test_restored_when_the_agent_is_killed(own_agent, spawn):
    own_agent.start()
    shell = spawn(own_agent, "tty", "sh", "-c", "echo up; exec sleep 71")
    shell.expect_exact("up\r\n")
    assert is_raw(shell)
    own_agent.process.kill()
    shell.expect_exact("hostvm: the agent of machine m went away\r\n")
    shell.expect_exact("shell> ")
    assert_restored(shell)
    shell.sendline("echo status $?")


def test_restored_when_the_client_is_killed(agent, spawn):
    shell = spawn(agent, "tty", "sh", "-c", "echo up; exec sleep 72")
    shell.expect_exact("up\r\n")
    assert is_raw(shell)
    client = client_of(shell)
    watchers = client.children()
    client.send_signal(signal.SIGKILL)
    shell.expect_exact("shell> ")
    assert_restored(shell)
    psutil.wait_procs(watchers, timeout=5)
    assert all(map(has_ended, watchers))
    until(lambda: agent.status()["sessions"] == 0)


def test_restored_when_the_client_gets_a_signal(agent, spawn):
    shell = spawn(agent, "tty", "sh", "-c", "echo up; exec sleep 73")
    shell.expect_exact("up\r\n")
    client_of(shell).terminate()
    shell.expect_exact("shell> ")
    assert_restored(shell)


def test_drawing_leaves_the_terminal_and_input_alone(agent, spawn):
    shell = spawn(agent, "draw", "sh", "-c", "test -t 1 && stty size; echo up; sleep 1; echo down")
    shell.expect_exact("30 90\r")
    shell.expect_exact("up\r")
    assert not is_raw(shell)
    shell.send("echo typed ahead\n")
    shell.expect_exact("down\r")
    shell.expect_exact("typed ahead\r\n")


def test_drawing_passes_ctrl_c_as_a_signal(agent, spawn):
    shell = spawn(agent, "draw", "sh", "-c", "trap 'echo caught; exit 3' INT; echo up; while :; do sleep 0.05; done")
    shell.expect_exact("up\r")
    time.sleep(0.1)
    shell.send("\x03")
    shell.expect_exact("caught")
    shell.sendline("echo status $?")
    shell.expect_exact("status 3")


def test_lines_wrap_at_the_users_width_without_a_terminal(agent, spawn):
    shell = spawn(agent, "plain", "sh", "-c", "echo width $COLUMNS")
    shell.expect_exact("width 90\r\n")
    assert b"width" in agent.run("sh", "-c", "echo width $COLUMNS").stdout


def test_a_lost_terminal_ends_what_ignores_its_hangup(agent, spawn):
    shell = spawn(agent, "tty", "sh", "-c", "trap '' HUP TERM; echo up $$; while :; do sleep 0.1; done")
    shell.expect(r"up (\d+)\r\n")
    program = psutil.Process(int(shell.match[1]))
    client = client_of(shell)
    client.send_signal(signal.SIGHUP)
    until(lambda: has_ended(client))
    until(lambda: has_ended(program))
    until(lambda: agent.status()["sessions"] == 0)
