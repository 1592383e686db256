from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from agent_rig import connect_to, until, waiting_shell
from paramiko import common
from paramiko.message import Message

from hostvm.checks import Check, run_checks
from hostvm.errors import GuestTimeout, MachineError, SshError
from hostvm.guest import Pty
from hostvm.ssh.banner import wait_banner
from hostvm.ssh.connection import SshRefused
from hostvm.ssh.keys import make_keys

ARGV = [
    "a b",
    "it's",
    'say "x"',
    "$HOME `id` $(id)",
    "",
    "line\nbreak\n",
    "tab\there",
    "*?[a]",
    "~",
    "-n",
    "\\",
    "!history",
    "grüße 你好 🐳",
    b"\xff\xfe raw",
    "a=b",
    ";true&",
]


def test_argv_is_exact(guest):
    done = guest.run(["printf", "%s\\0", *ARGV])
    words = [word if isinstance(word, bytes) else word.encode() for word in ARGV]
    assert done.stdout.split(b"\0")[:-1] == words
    assert (done.status, done.stderr) == (0, b"")


def test_env_and_folder(guest):
    env = {"A": "1 '2'\n3", "with-dash": "x", "UID": "77", "EMPTY": ""}
    done = guest.run(["env", "-0"], env=env, cwd="/usr/share")
    found = dict(entry.split(b"=", 1) for entry in done.stdout.split(b"\0") if entry)
    assert {name: found[name.encode()].decode() for name in env} == env
    assert found[b"PWD"] == b"/usr/share"


def test_folder_that_is_missing_falls_back_to_home(guest, sshd):
    home = guest.run(["sh", "-c", "cd; pwd"]).stdout
    assert guest.run(["pwd"], cwd="/no/such place").stdout == home


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)])
def test_status(guest, script, status):
    assert guest.run(["sh", "-c", script]).status == status


@pytest.mark.parametrize(("name", "status"), [("KILL", 137), ("TERM", 143), ("SEGV", 139), ("USR1", 138)])
def test_status_of_a_signal(guest, name, status):
    assert guest.run(["sh", "-c", f"kill -{name} $$"]).status == status


def test_missing_program(guest):
    done = guest.run(["no-such-program"])
    assert done.status == 127
    assert b"no-such-program" in done.stderr


def test_outputs_are_apart(guest):
    done = guest.run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_big_binary_both_ways(guest):
    data = os.urandom(16 << 20)
    assert guest.run(["cat"], stdin=data).stdout == data


def test_program_that_does_not_read_its_input(guest):
    assert guest.run(["true"], stdin=b"x" * (8 << 20)).status == 0


def test_terminal_and_its_size(guest):
    process = guest.stream(
        ["sh", "-c", "tty >/dev/null && stty size && echo $TERM; read x; stty size"], pty=Pty("vt220", 33, 101)
    )
    first = b""
    while b"vt220" not in first:
        first += process.read_stdout(1000)
    assert first == b"33 101\r\nvt220\r\n"
    process.resize(20, 70)
    process.write_stdin(b"\n")
    rest = b""
    while more := process.read_stdout(1000):
        rest += more
    assert b"20 70" in rest
    assert process.wait() == 0


def test_timeout_kills(guest):
    begun = time.monotonic()
    with pytest.raises(GuestTimeout) as caught:
        guest.run(["sleep", "60"], timeout=0.3)
    assert time.monotonic() - begun < 3
    assert "sleep 60" in caught.value.details


def test_other_host_key_is_refused(sshd, tmp_path):
    other = make_keys(tmp_path).host_public
    with pytest.raises(SshRefused) as caught:
        connect_to(sshd, host_public_key=other)
    assert "host key" in caught.value.brief
    assert other in caught.value.details


def test_unknown_client_key_is_refused(sshd, tmp_path):
    with pytest.raises(SshRefused):
        connect_to(sshd, client_key=make_keys(tmp_path).client_key)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(SshError):
        wait_banner(port, time.monotonic() + 0.4)
    assert time.monotonic() - begun < 1


def test_a_forward_that_accepts_but_stays_silent_is_tried_again():
    """As QEMU's does while the guest boots: the first connections never speak, a later one does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve() -> None:
            for turn in range(3):
                sock, _ = server.accept()
                kept.append(sock)
                if turn == 2:
                    sock.sendall(b"SSH-2.0-Test\r\n")

        threading.Thread(target=serve, daemon=True).start()
        begun = time.monotonic()
        with wait_banner(server.getsockname()[1], begun + 10) as found:
            assert found.recv(100) == b"SSH-2.0-Test\r\n", "the banner is still unread"
        assert time.monotonic() - begun < 2
        for sock in kept:
            sock.close()


def test_socket_in_the_guest(guest, engine):
    stream = guest.open_socket(str(engine.path))
    stream.sendall(b"ECHO\n" + b"x" * 100_000)
    stream.shutdown_write()
    answer = b""
    while more := stream.recv(65536):
        answer += more
    assert answer == b"x" * 100_000 + b"<end>"
    stream.close()
    stream.close()


def test_nothing_listens_in_the_guest(guest):
    with pytest.raises(ConnectionRefusedError):
        guest.open_socket("/no/such.sock")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        guest.open_tcp("127.0.0.1", port)


def test_tcp_in_the_guest(guest):
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = guest.open_tcp("127.0.0.1", server.getsockname()[1])
        sock, _ = server.accept()
        with sock:
            stream.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        assert stream.recv(10) == b""
    stream.close()


def test_channels_are_forgotten(guest, engine):
    transport = guest._transport
    for _ in range(50):
        guest.open_socket(str(engine.path)).close()
    shell = waiting_shell(guest)
    until(lambda: set(transport._open) == {shell.chanid} and not transport.channel_events)
    assert set(transport.channels_seen) == {shell.chanid}


def test_a_program_is_begun_by_the_waiting_shell(guest):
    shell = waiting_shell(guest)
    process = guest.stream(["sh", "-c", "cat; echo $PPID $0 >&2; exit 7"], env={"A": "1"}, cwd="/usr")
    assert process._channel is shell
    process.write_stdin(b"its input")
    process.close_stdin()
    assert process.read_stdout(100) == b"its input"
    assert process.wait() == 7
    process.close()
    assert waiting_shell(guest) is not shell


def test_the_waiting_shell_becomes_the_program(guest):
    waiting_shell(guest)
    process = guest.stream(["sleep", "60"])
    process.signal("USR1")
    assert process.wait() == 128 + 10
    process.close()


@pytest.mark.parametrize("words", [["echo", "two\nlines"], ["echo", "grüße"], [b"echo", b"\xff"], ["echo", "x" * 5000]])
def test_what_a_line_cannot_hold_goes_its_own_way(guest, words):
    shell = waiting_shell(guest)
    process = guest.stream(words)
    assert process._channel is not shell
    said = b"".join(iter(lambda: process.read_stdout(10000), b""))
    assert said == (words[1] if isinstance(words[1], bytes) else words[1].encode()) + b"\n"
    assert process.wait() == 0
    process.close()


@pytest.mark.parametrize("end", ["closed here", "killed there"])
def test_a_waiting_shell_that_ended_is_not_used(guest, end):
    shell = waiting_shell(guest)
    if end == "closed here":
        shell.close()
    else:
        shell.request("signal", "KILL")
        until(shell.status_event.is_set)
    assert guest.run(["echo", "fresh"]).stdout == b"fresh\n"
    assert waiting_shell(guest) is not shell


def test_while_nothing_waits_a_program_starts_all_the_same(guest):
    waiting_shell(guest)
    first = guest.stream(["cat"])
    second = guest.stream(["cat"])
    for process in (first, second):
        process.write_stdin(b"x")
        process.close_stdin()
        assert process.read_stdout(10) == b"x"
        assert process.wait() == 0
        process.close()


def test_many_programs_at_once_leave_one_waiting_shell(guest):
    with ThreadPoolExecutor(20) as pool:
        assert {done.stdout for done in pool.map(lambda _: guest.run(["echo", "x"]), range(60))} == {b"x\n"}
    until(lambda: set(guest._transport._open) == {guest._shell._channel.chanid})


def test_what_a_channel_says_after_its_end_is_not_sent(guest):
    process = guest.stream(["cat"])
    channel = process._channel
    process.write_stdin(b"x")
    assert process.read_stdout(1) == b"x"
    with channel.lock:
        late = channel._send_eof()
    assert late is not None
    process.signal("KILL")
    until(lambda: channel.closed)
    assert guest.ping(5)  # by now sshd has the channel's CLOSE, too, and its number is free
    channel.transport._send_user_message(late)
    channel.transport._send_user_message(_window_adjust(channel, 1))
    assert guest.ping(5)
    assert guest.run(["echo", "lives"]).stdout == b"lives\n"


@pytest.mark.parametrize("asked", ["ping", "hears"])
def test_a_guest_is_asked_again_when_the_last_ping_had_its_answer_before_its_thread_ended(guest, asked):
    answered = threading.Thread(target=time.sleep, args=(0.3,))
    answered.start()
    guest._transport._pinging = answered
    assert getattr(guest, asked)(5)


def _window_adjust(channel, size):
    message = Message()
    message.add_byte(common.cMSG_CHANNEL_WINDOW_ADJUST)
    message.add_int(channel.remote_chanid)
    message.add_int(size)
    return message


def test_keys_are_renewed_while_channels_open_and_close(guest, monkeypatch):
    exchanges = []
    handlers = guest._transport._handler_table
    renewed = handlers[common.MSG_NEWKEYS]
    monkeypatch.setitem(handlers, common.MSG_NEWKEYS, lambda message: (exchanges.append(1), renewed(message)))
    guest._transport.packetizer.REKEY_BYTES = 100_000

    def work(number):
        size = 30_000 * (number % 5)
        data = bytes(size)
        return guest.run(["cat"], stdin=data, timeout=30).stdout == data

    deadline = time.monotonic() + 60  # fewer the busier the computer is: what is on its way goes first
    with ThreadPoolExecutor(20) as pool:
        while len(exchanges) <= 20:
            assert time.monotonic() < deadline, f"{len(exchanges)} exchanges"
            assert all(pool.map(work, range(100)))
    assert guest.ping(5)


def test_ping_and_end_of_the_connection(sshd):
    connection = connect_to(sshd)
    assert connection.ping(5)
    assert not connection.wait_closed(0.01)
    process = connection.stream(["sleep", "60"])
    connection.close()
    assert connection.wait_closed(5)
    assert not connection.alive
    assert not connection.ping(1)
    with pytest.raises(SshError):
        process.wait()
    with pytest.raises(SshError):
        connection.run(["true"])


class SlowLine:
    """Carries one connection to sshd, what goes there at 400 kB/s, what comes back at once."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._carry, args=(port,), daemon=True).start()

    def _carry(self, port):
        near = self.listener.accept()[0]
        far = socket.create_connection(("127.0.0.1", port))
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        threading.Thread(target=self._pump, args=(far, near, 65536, 0), daemon=True).start()
        self._pump(near, far, 8192, 0.02)

    @staticmethod
    def _pump(source, target, size, pause):
        with source, target, contextlib.suppress(OSError):
            while data := source.recv(size):
                target.sendall(data)
                time.sleep(pause)


def test_a_slow_guest_that_is_sent_much_is_heard_though_it_answers_late(sshd):
    line = SlowLine(sshd.port)
    with line.listener:
        guest = connect_to(sshd, port=line.port)
        taking = guest.stream(["sh", "-c", "cat > /dev/null"])

        def send():
            with contextlib.suppress(OSError):  # it is cut off at the end
                taking.write_stdin(bytes(4 << 20))

        threading.Thread(target=send, daemon=True).start()
        time.sleep(1)
        assert not guest.ping(1)
        assert guest.hears(1)
        guest.close()


def test_the_socket_is_closed_when_its_reader_has_ended(sshd, monkeypatch):
    """Closed under it, its number may be another socket's by the time it wakes, and it waits on that one."""
    transport = connect_to(sshd)._transport
    reading: list[bool] = []
    close = transport.packetizer.close
    monkeypatch.setattr(transport.packetizer, "close", lambda: (reading.append(transport.is_alive()), close()))
    transport.close()
    assert reading == [False]


def test_a_channel_of_a_connection_that_was_lost_says_so(sshd):
    connection = connect_to(sshd)
    process = connection.stream(["cat"])
    process.write_stdin(b"one\n")
    assert process.read_stdout(4) == b"one\n"
    # What paramiko has not heard of yet, as of a guest that was suspended a moment ago.
    connection._transport._socket.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionError):
        process.write_stdin(b"two\n")
    connection.close()


def test_checks_hold_in_their_order(guest, tmp_path):
    told = []
    checks = (
        Check("first", ("true",), "hostvm logs"),
        Check("soft", ("sh", "-c", "echo why; false"), "hostvm logs", fatal=False),
        Check("second", ("sh", "-c", f"test -e {tmp_path}/mark || {{ mkdir -p {tmp_path}; exit 1; }}"), "hostvm logs"),
    )
    (tmp_path / "mark").touch()
    tmp_path.chmod(0o755)
    warnings = run_checks(guest, (checks[0], checks[1]), time.monotonic() + 5, report=told.append)
    assert told == ["check 1 of 1: first"]
    assert warnings == ["soft: hostvm logs (why)"]


def test_check_that_never_holds(guest, tmp_path):
    console = tmp_path / "console.log"
    console.write_text("old\n" * 30 + "Kernel panic\n")
    check = Check("engine", ("sh", "-c", "echo no engine >&2; exit 3"), "look with: hostvm logs")
    with pytest.raises(MachineError) as caught:
        run_checks(guest, [check], time.monotonic() + 0.5, console=console)
    error = caught.value
    assert "engine" in error.brief
    assert "status 3" in error.details
    assert "no engine" in error.details
    assert "Kernel panic" in error.details
    assert error.resolution == "look with: hostvm logs"
