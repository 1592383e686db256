"""Programs in the guest that are ended from here."""

from __future__ import annotations

import pytest
from agent_rig import until, waiting_shell

from hostvm.guest import Pty
from hostvm.ssh import signals


@pytest.mark.parametrize(("name", "status"), [("TERM", 143), ("INT", 130), ("KILL", 137), ("HUP", 129)])
def test_signals_reach_the_program(guest, name, status):
    process = guest.stream(["sh", "-c", "echo up; exec sleep 60"])
    assert process.read_stdout(10) == b"up\n"
    process.signal(name)
    assert process.wait() == status


def test_close_ends_the_program(guest):
    process = guest.stream(["sh", "-c", "echo $$; exec sleep 60"])
    number = int(process.read_stdout(20))
    process.close()
    until(lambda: guest.run(["kill", "-0", str(number)]).status != 0)


def begin_afresh(guest, words, pty=None):
    """A program for which no shell waits: sshd forks for it."""
    guest._shell.take(b"exit")
    return guest.stream(words, pty=pty)


def ended(process):
    """The status, once there is one; the program lives on when it is not there in time."""
    until(process._channel.status_event.is_set, 20)
    return process.wait()


@pytest.mark.parametrize("pty", [None, Pty("vt220", 33, 101)])
@pytest.mark.parametrize(("name", "status"), [("KILL", 137), ("TERM", 143), ("HUP", 129), ("INT", 130)])
def test_a_signal_to_a_program_that_has_just_been_asked_for_is_not_lost(guest, name, status, pty):
    for _ in range(10):
        process = begin_afresh(guest, ["sleep", "60"], pty)
        process.signal(name)
        assert ended(process) == status
        process.close()


def test_a_program_that_is_let_go_of_as_soon_as_it_is_asked_for_does_not_live_on(guest, sshd):
    for turn in range(10):
        begin_afresh(guest, ["sleep", f"61.{turn}"]).close()
    shell = waiting_shell(guest)
    until(lambda: set(guest._transport._open) == {shell.chanid}, 20)
    assert guest.run(["pgrep", "-f", r"^sleep 61\.[0-9]"]).stdout == b""


def test_a_signal_that_cannot_be_sent_is_given_up_and_the_channel_closed(guest, monkeypatch):
    """As to a program of another user; sshd refuses it each time."""
    monkeypatch.setattr(signals, "SECONDS", 0.2)
    process = guest.stream(["sh", "-c", "echo up; exec cat"])
    assert process.read_stdout(10) == b"up\n"
    monkeypatch.setattr(process, "signal", lambda _: signals.send(process._channel, "NONE"))
    process.close()
    shell = waiting_shell(guest)
    until(lambda: set(guest._transport._open) == {shell.chanid})


def test_a_program_that_ended_by_itself_is_sent_no_signal_again(guest, monkeypatch):
    tries = []
    process = guest.stream(["sh", "-c", "read line"])
    channel = process._channel
    real = channel.ask
    monkeypatch.setattr(channel, "ask", lambda *words: (tries.append(words), real(*words)))
    signals.send(channel, "NONE")
    until(lambda: len(tries) > 1)
    process.write_stdin(b"\n")
    assert process.wait() == 0
    until(lambda: channel._outlet._holds == 0)
    seen = len(tries)
    assert guest.ping(5)
    assert len(tries) == seen
    process.close()
