from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from agent_rig import ENVIRONMENT, until

ARGV = [
    "a b",
    "it's",
    'say "x"',
    "$HOME `id` $(id)",
    "",
    "line\nbreak\n",
    "*?[a]",
    "-n",
    "--",
    "\\",
    "grüße 你好 🐳",
    b"\xff\xfe raw",
    ";true&",
]


def guest_processes(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if line[:1] == ["sleep"] and word in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_argv_is_exact(agent):
    done = agent.run("printf", "%s\\0", *ARGV)
    words = [word if isinstance(word, bytes) else word.encode() for word in ARGV]
    assert done.stdout.split(b"\0")[:-1] == words
    assert (done.returncode, done.stderr) == (0, b"")


def test_own_folder_is_the_guests_when_it_is_there(agent):
    assert agent.run("pwd", cwd="/usr/share").stdout == b"/usr/share\n"


def test_64_mib_through_a_pipe(agent):
    data = os.urandom(64 << 20)
    done = agent.run("cat", input=data)
    assert done.stdout == data
    assert done.returncode == 0


def test_input_from_a_file(agent, tmp_path):
    (tmp_path / "in").write_bytes(bytes(range(256)) * 1000)
    with (tmp_path / "in").open("rb") as file:
        assert agent.run("cat", stdin=file).stdout == bytes(range(256)) * 1000


def test_outputs_are_apart_and_binary(agent):
    done = agent.run("sh", "-c", r"printf '\000\377\r\n'; printf 'err\r\n' >&2")
    assert (done.stdout, done.stderr) == (b"\0\xff\r\n", b"err\r\n")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 42", 42), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_status(agent, script, status):
    assert agent.run("sh", "-c", script).returncode == status


def test_missing_program(agent):
    done = agent.run("no-such-program")
    assert done.returncode == 127
    assert b"no-such-program" in done.stderr


def test_program_that_leaves_its_input(agent):
    done = agent.run("true", input=b"x" * (16 << 20))
    assert (done.returncode, done.stderr) == (0, b"")


def test_input_is_left_alone_when_it_is_not_wanted(agent):
    """`while read name; do hostvm docker exec $name true; done` keeps its own input."""
    client = " ".join(f"'{word}'" for word in agent.argv("quiet", "cat"))
    loop = f"while read line; do {client}; echo got $line; done"
    done = subprocess.run(["sh", "-c", loop], input=b"one\ntwo\n", capture_output=True, env=ENVIRONMENT, check=True)
    assert done.stdout == b"got one\ngot two\n"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]
)
def test_signals_are_passed_on(agent, number, status):
    client = agent.popen("sh", "-c", "echo up; exec sleep 61", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert client.stdout.readline() == b"up\n"
    client.send_signal(number)
    assert client.wait(10) == status
    client.stdout.close()


def test_program_may_handle_ctrl_c(agent):
    script = "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.05; done"
    client = agent.popen("sh", "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert client.stdout.readline() == b"up\n"
    client.send_signal(signal.SIGINT)
    assert client.communicate(timeout=10)[0] == b"caught\n"
    assert client.returncode == 5


def test_signal_is_not_stuck_behind_input(agent):
    """The program reads nothing; the client has megabytes to send."""
    client = agent.popen("sh", "-c", "echo up; exec sleep 62", stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert client.stdout.readline() == b"up\n"
    os.set_blocking(client.stdin.fileno(), False)
    written = 0
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and written < (8 << 20):
        try:
            written += os.write(client.stdin.fileno(), b"x" * 65536)
        except BlockingIOError:
            time.sleep(0.02)
    client.send_signal(signal.SIGTERM)
    assert client.wait(5) == 143
    client.stdout.close()
    client.stdin.close()


def test_third_ctrl_c_leaves(agent):
    script = "trap '' INT; trap 'exit 0' HUP; echo up; sleep 63 & wait; wait"
    client = agent.popen("sh", "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert client.stdout.readline() == b"up\n"
    for _ in range(3):
        client.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert client.wait(5) == 130
    client.stdout.close()
    until(lambda: not guest_processes("63"))


def test_reader_that_leaves_ends_quietly(agent):
    client = agent.popen("yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert client.stdout.readline() == b"y\n"
    client.stdout.close()
    assert client.stderr.read() == b""
    assert client.wait(10) == 141
    client.stderr.close()


def test_killed_client_ends_its_program(agent):
    client = agent.popen("sh", "-c", "echo up; exec sleep 64", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert client.stdout.readline() == b"up\n"
    client.kill()
    client.wait()
    client.stdout.close()
    until(lambda: not guest_processes("64"))
    until(lambda: agent.status()["sessions"] == 0)


def test_background_job_does_not_touch_its_terminal(agent):
    """With job control a background process that reads the terminal is stopped; ours must not be."""
    import pexpect

    words = " ".join(f"'{word}'" for word in agent.argv("plain", "echo", "from", "the", "back"))
    shell = pexpect.spawn("bash", ["--norc", "-i"], env={**ENVIRONMENT, "PS1": "$ "}, timeout=10, encoding="utf-8")
    shell.sendline(f"{words} & wait")
    shell.expect("from the back\r\n")
    shell.sendline("jobs; echo end")
    shell.expect("end\r\n")
    assert "Stopped" not in shell.before
    shell.close(force=True)


def test_ctrl_z_stops_the_client(agent):
    client = agent.popen("sh", "-c", "echo up; sleep 1; echo down", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert client.stdout.readline() == b"up\n"
    client.send_signal(signal.SIGTSTP)
    until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_STOPPED)
    client.send_signal(signal.SIGCONT)
    assert client.communicate(timeout=10)[0] == b"down\n"
    assert client.returncode == 0


def test_agent_that_dies_midway(own_agent):
    own_agent.start()
    client = own_agent.popen(
        "sh", "-c", "echo up; exec sleep 65", stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert client.stdout.readline() == b"up\n"
    own_agent.process.kill()
    errors = client.communicate(timeout=10)[1].decode()
    assert client.returncode == 125
    assert errors.startswith("hostvm: the agent of machine m went away\n")


def test_no_agent(own_agent):
    done = own_agent.run("true")
    assert done.returncode == 125
    assert b"hostvm start m" in done.stderr


def test_connection_lost_midway(own_agent, sshd):
    own_agent.start()
    client = own_agent.popen(
        "sh", "-c", "echo up; exec sleep 66", stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert client.stdout.readline() == b"up\n"
    sshd.cut(sshd.connections()[-1])
    errors = client.communicate(timeout=10)[1].decode()
    assert client.returncode == 125
    assert "connection to the guest was lost" in errors


def test_output_that_cannot_be_written(agent):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            agent.argv("plain", "echo", "x"), env=ENVIRONMENT, stdout=full, stderr=-1, stdin=-3, check=False
        )
    assert done.returncode == 125
    assert b"No space left" in done.stderr


def loaded_by(code: str) -> set[str]:
    words = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout.split())


def test_a_look_at_all_machines_imports_only_what_it_needs():
    """`hostvm ls` of 20 machines is 120 ms, most of them imports."""
    seen = "from hostvm import spec; from hostvm.drivers.qemu import driver; spec.default_spec()"
    loaded = loaded_by(f"import cli.commands.look; {seen}")
    assert "hostvm.machines.observe" in loaded
    closer = {"hostvm.machines.change", "hostvm.machines.room", "hostvm.machines.stalled", "hashlib", "rich"}
    assert not (closer | ({"psutil"} if sys.platform == "linux" else set())) & loaded


def test_client_imports_nothing_heavy(agent):
    before = loaded_by("import cli.main, cli.engine_words, cli.forward, cli.docker_words, cli.guest_env")
    base = loaded_by("pass")
    slow = {
        "typing",
        "re",
        "enum",
        "signal",
        "socket",
        "threading",
        "pathlib",
        "json",
        "contextlib",
        "shutil",
        "struct",
        "termios",
        "warnings",
    }
    assert not slow & (before - base), "loaded before the request is on its way"
    after = loaded_by("import cli.session")
    assert not {"typing", "re", "socket", "json", "pathlib", "subprocess", "logging"} & (after - base)


BECOMES_DOCKER = """
import os, sys
def become(path, words, env):
    print(path, *sys.modules)
    sys.stdout.flush()
    os._exit(0)
os.execve = become
from cli.main import main
main(["-m", "m", "docker", "ps"])
"""


def test_the_way_to_a_client_of_this_computer_imports_only_what_it_needs(agent, tmp_path):
    """Everything here is on top of what the user's own `docker ps` takes; a module is some 0.2 ms."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\n")
    docker.chmod(0o755)
    run = str(agent.run_dir.parent)
    environment = {**ENVIRONMENT, "PATH": str(tmp_path), "HOSTVM_CLIENT": "host", "HOSTVM_RUN": run}
    words = [sys.executable, "-c", BECOMES_DOCKER]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    client, *loaded = done.stdout.split()
    assert client == str(docker)
    assert set(loaded) - loaded_by("pass") <= {
        *("__future__", "_socket"),
        *("cli", "cli.main", "cli.engine_words", "cli.host_client", "cli.shims"),
        *("runtime", "runtime.words"),
        *("hostvm", "hostvm.engines", "hostvm.errors", "hostvm.paths", "hostvm.platform", "hostvm.platform.quick"),
        *("hostvm.agent", "hostvm.agent.client", "hostvm.agent.protocol"),
        *("images", "images.failure"),
    }
