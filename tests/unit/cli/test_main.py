from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.commands import snapshot
from cli.main import entry, main, split_globals
from cli.manage import build_parser, split_command
from cli.printer import print_failure
from hostvm import locks
from hostvm.errors import HostvmError
from hostvm.paths import MachinePaths, cache, home, image_keys, is_name, machine_names
from hostvm.plain import plain
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state
from runtime.words import FORWARDED


@pytest.mark.parametrize(
    ("words", "machine", "rest"),
    [
        (["docker", "ps"], "", ["docker", "ps"]),
        (["-m", "ci", "docker", "ps"], "ci", ["docker", "ps"]),
        (["docker", "-m", "ci", "ps"], "ci", ["docker", "ps"]),
        (["--machine=ci", "compose", "up"], "ci", ["compose", "up"]),
        (["docker", "run", "-m", "1g", "x"], "", ["docker", "run", "-m", "1g", "x"]),
        (["start", "-m", "ci"], "", ["start", "-m", "ci"]),
    ],
)
def test_which_machine_and_which_words(words, machine, rest):
    found = split_globals(words)
    assert (found.machine, found.rest) == (machine, rest)


def test_the_environment_names_a_machine(monkeypatch):
    monkeypatch.setenv("HOSTVM_MACHINE", "lab")
    assert split_globals(["docker", "ps"]).chosen() == "lab"
    assert split_globals(["-m", "ci", "docker"]).chosen() == "ci"
    monkeypatch.delenv("HOSTVM_MACHINE")
    assert split_globals([]).chosen() == "default"


def test_leading_switches():
    found = split_globals(["-v", "-q", "--json", "--debug", "ls"])
    assert (found.verbose, found.quiet, found.json, found.debug, found.rest) == (1, True, True, True, ["ls"])


@pytest.mark.parametrize("variable", ["HOSTVM_HOME", "HOSTVM_RUN", "HOSTVM_CACHE"])
@pytest.mark.parametrize(
    "below",
    ["", pytest.param("/below", marks=pytest.mark.skipif(sys.platform == "win32", reason="it is missing there"))],
)
@pytest.mark.parametrize(
    ("words", "status"), [(["ls"], 2), (["start", "ci"], 2), (["doctor"], 2), (["docker", "-m", "ci", "ps"], 125)]
)
def test_a_file_where_a_folder_is_to_be_is_told_before_anything_else(
    variable, below, words, status, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv(variable, f"{file}{below}")
    assert main(words) == status
    brief, why, way = capsys.readouterr().err.splitlines()
    assert brief == f"hostvm: {variable} names no folder"
    assert str(file) in why
    assert variable in way
    with pytest.raises(SystemExit):
        main(["--help"])


def test_a_folder_that_is_not_there_yet_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSTVM_HOME", str(tmp_path / "a" / "b"))
    assert main(["ls"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["start", "--from-snapshot", ""],
        ["start", "--template="],
        ["create", "--mount", ""],
        ["upgrade", "--image", ""],
        ["move", "web", "--from", "", "--to", "ci"],
        ["run", "--rm-machine", "--of", "", "--", "true"],
        ["doctor", "--bundle", ""],
        ["image", "export", "docker", "-o", "x", "--sign", ""],
        ["image", "pull", "r.example/x", "--cacert", ""],
        ["image", "base", "busybox:latest", "-o", ""],
        ["image", "build", ""],
        ["bundle", "create", "-o", "x", "--wheels", ""],
        ["registry", "start", "--mirror", ""],
        ["shim", "install", "--dir", ""],
        ["snapshot", "create", ""],
    ],
    ids=" ".join,
)
def test_nor_is_any_other_empty_word_taken_for_none(words, capsys, monkeypatch):
    """`--sign ""` would leave an image unsigned, `--cacert ""` trust others, `--from-snapshot ""` be as none."""
    monkeypatch.setattr("cli.manage.import_module", lambda name: pytest.fail(f"{name} is run"))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert ": it is empty\n" in said
    assert " --help" in said


def test_a_setting_may_be_empty(capsys):
    assert main(["create", "ci", "--libvirt-uri", "", "--driver", "x"]) == 2
    said = capsys.readouterr().err
    assert "driver: x must be one of" in said
    assert "libvirt_uri" not in said


def test_words_behind_two_hyphens_are_exact():
    assert split_command(["shell", "--", "a", "--", ""]) == (["shell"], ["a", "--", ""])
    assert split_command(["shell"]) == (["shell"], None)
    assert split_command(["rm", "--", "ci"]) == (["rm", "--", "ci"], None)


@pytest.mark.parametrize(
    "words",
    [
        ["rm", "--force", "--", "ci"],
        ["rm", "--force", ""],
        ["rm", "--force", "-m", ""],
        ["-m", "", "rm", "--force"],
        ["--machine=", "rm", "--force"],
    ],
)
def test_no_word_is_passed_over_for_the_default_machine(words, capsys):
    """A script's `hostvm rm --force "$NAME"` with a NAME that is empty."""
    for name in ("default", "ci"):
        MachinePaths.of(name).folder.mkdir(parents=True)
    named = words[-1] == "ci"
    assert main(words) == (0 if named else 2)
    assert machine_names() == (["default"] if named else ["ci", "default"])
    assert "names no machine" in capsys.readouterr().err or named


def test_nor_is_an_empty_name_of_a_forwarded_words_machine(capsys):
    assert main(["docker", "-m", "", "ps"]) == 2
    assert "names no machine" in capsys.readouterr().err


def test_nor_an_empty_snapshots_for_the_newest(monkeypatch):
    MachinePaths.of("default").folder.mkdir(parents=True)
    monkeypatch.setattr(snapshot, "newest_snapshot", lambda _: pytest.fail("the newest was taken"))
    assert main(["snapshot", "restore", "--force", ""]) == 2


def test_words_behind_two_hyphens_are_the_verbs_own(capsys):
    assert main(["ls", "--", "x"]) == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "wrong", "way"),
    [
        (["start", "--colour", "red"], "--colour", "hostvm start --help"),
        (["mount", "ls", "--colour"], "--colour", "hostvm mount ls --help"),
        (["config", "check", "a", "b"], "b", "hostvm config check --help"),
    ],
)
def test_wrong_words_are_a_usage_error_with_a_next_step(capsys, words, wrong, way):
    assert main(words) == 2
    told = capsys.readouterr().err
    assert f"unrecognized arguments: {wrong}\n" in told
    assert f"see: {way}\n" in told


def test_a_bad_machine_name_for_a_forwarded_word_is_125(capsys):
    assert main(["-m", "No Such", "docker", "ps"]) == 125
    assert "cannot be a machine's name" in capsys.readouterr().err


def verbs_of(parser):
    return next(action for action in parser._actions if hasattr(action, "choices") and action.choices).choices


EVERY = verbs_of(build_parser())


@pytest.mark.parametrize("name", EVERY)
def test_a_verb_alone_is_as_among_all(name):
    alone = verbs_of(build_parser(name))
    assert alone[name].format_help() == EVERY[name].format_help()
    assert len(alone) < len(EVERY)


def test_every_command_has_help_and_examples():
    verbs = EVERY
    for name, verb in verbs.items():
        if name in FORWARDED or isinstance(verb._actions[-1].choices, dict):
            continue  # the engines' own, and those that only hold others
        assert verb.description, name
        assert f"hostvm {name}" in verb.epilog or "hostvm " in verb.epilog, name


@settings(max_examples=30, deadline=None)
@given(
    st.text(min_size=1).filter(lambda name: not is_name(name)), st.sampled_from(["status", "start", "stop", "docker"])
)
def test_no_name_of_a_machine_ends_in_a_traceback(name, verb):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert main([f"--machine={name}", verb]) in {2, 125}
    assert f"'{plain(name)}' cannot be a machine's name" in told.getvalue()
    assert "defect" not in told.getvalue()
    assert "Traceback" not in told.getvalue()


def test_what_only_looks_works_in_a_read_only_home(monkeypatch, capsys):
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, MachineState("u", "m", "amd64", 2222, "qemu", "sha256:ab", "now"))
    paths.console.write_text("what it said\n")

    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(paths.lock))

    monkeypatch.setattr(locks.FileLock, "acquire", refused)
    for words, said in (
        (["ls"], "stopped"),
        (["status", "box"], "status:    stopped"),
        (["inspect", "box"], '"faults": []'),
        (["logs", "--console", "box"], "what it said"),
    ):
        main(words)
        told = capsys.readouterr()
        assert said in told.out
        assert not told.err
    assert main(["stop", "box"]) == 1
    assert f"hostvm: HOSTVM_HOME is read-only: {home()}" in capsys.readouterr().err


def test_a_write_outside_of_a_lock_tells_of_a_read_only_home_too(capsys):
    for where, told in ((image_keys(), "HOSTVM_HOME is read-only"), ("/elsewhere", "the system refused")):
        fault = OSError(errno.EROFS, os.strerror(errno.EROFS), str(where))
        assert print_failure(fault, forwarded=False, verbose=0) == 1
        assert capsys.readouterr().err.startswith(f"hostvm: {told}")


@pytest.mark.skipif(sys.platform == "win32", reason="files have no owner's number there")
@pytest.mark.parametrize(
    ("number", "brief", "way"),
    [
        (errno.EACCES, "HOSTVM_CACHE cannot be written", 'make it yours again: sudo chown -R "$(id -un)" {}'),
        (errno.EPERM, "HOSTVM_CACHE cannot be written", 'make it yours again: sudo chown -R "$(id -un)" {}'),
        (errno.EROFS, "HOSTVM_CACHE is read-only", "or choose another folder: export HOSTVM_CACHE=~/hostvm-cache"),
    ],
)
def test_a_cache_that_cannot_be_written_is_told_with_what_helps(monkeypatch, capsys, number, brief, way):
    def refused(self, *_, **__):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert main(["image", "prune"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"hostvm: {brief}: {cache()}\n  {os.strerror(number)}: {cache()}/images\n")
    assert way.format(cache()) in told


@pytest.mark.skipif(sys.platform == "win32", reason="files have no owner's number there")
def test_a_cache_of_another_user_s(monkeypatch, capsys):
    def told():
        print_failure(OSError(errno.EACCES, "Permission denied", str(cache())), forwarded=False, verbose=0)
        return capsys.readouterr().err.partition("-> ")[2]

    owner, stat = cache().stat().st_uid, Path.stat
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert told() == "choose another folder: export HOSTVM_CACHE=~/hostvm-cache\n"
    # Root made it in a folder of one's own.
    owners = {cache(): SimpleNamespace(st_uid=owner), cache().parent: SimpleNamespace(st_uid=owner + 1)}
    monkeypatch.setattr(Path, "stat", lambda path: owners.get(path) or stat(path))
    assert told().startswith(f'make it yours again: sudo chown -R "$(id -un)" {cache()}')


@pytest.mark.parametrize("place", ["/elsewhere", "", None, 3, b"/bytes"])
def test_what_the_system_refuses_elsewhere_is_not_the_cache_s(capsys, place):
    print_failure(OSError(errno.EACCES, "Permission denied", place), forwarded=False, verbose=0)
    assert "the system refused" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(errno, "EDQUOT"), reason="Windows has no such number")
def test_a_quota_that_is_used_up_is_a_full_disk(capsys):
    print_failure(OSError(errno.EDQUOT, "Disk quota exceeded", "/home/me/x"), forwarded=False, verbose=0)
    said = capsys.readouterr().err
    assert said.startswith("hostvm: the disk is full\n")
    assert "Disk quota exceeded: '/home/me/x'" in said


@pytest.mark.parametrize(("free", "told"), [(4096, True), (1 << 40, False)])
def test_of_a_full_disk_the_places_without_room_are_told(monkeypatch, capsys, free, told):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    print_failure(OSError(errno.ENOSPC, "No space left on device"), forwarded=False, verbose=0)
    said = capsys.readouterr().err
    assert said.startswith("hostvm: the disk is full\n  [Errno 28] No space left on device\n")
    assert (f"  {home()}: 4 KiB free\n" in said) is told
    assert (f"  -> free some space: df -h {home()} {cache()}\n" in said) is told
    assert said.endswith("then run the same command again\n")


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (BrokenPipeError(), 141, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "hostvm: the disk is full"),
    ],
)
def test_output_that_cannot_be_written(monkeypatch, capsys, fault, status, told):
    """A short table is still in Python's buffer when the command is over."""

    class Full(io.StringIO):
        def flush(self):
            raise fault

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    assert main(["ls"]) == status
    said = capsys.readouterr().err
    assert said.startswith(told) if told else not said


@pytest.mark.parametrize(("verb", "at_once"), [("ls", True), ("frobnicate", False)])
def test_after_a_look_python_s_own_end_is_not_waited_for(monkeypatch, verb, at_once):
    monkeypatch.setattr(sys, "argv", ["hostvm", verb])
    for name in ("cli.session", "cli.commands.look"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    class Ended(BaseException):
        pass

    def end(status):
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended if at_once else SystemExit):
        entry()


def test_a_command_that_was_begun_without_any_output_ends_with_its_own_status(monkeypatch):
    """As by a daemon that has closed it."""
    ended = []
    monkeypatch.setattr("cli.main.main", lambda: 3)
    monkeypatch.setitem(sys.modules, "cli.session", os)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit):
        entry()
    assert ended == [3]


def test_a_traceback_for_a_report_holds_no_login_of_an_address(capsys):
    fault = HostvmError("no mirror")
    fault.__cause__ = OSError("cannot parse http://anna:secret@mirror.test:99999/debian")
    print_failure(fault, forwarded=False, verbose=1)
    told = capsys.readouterr().err
    assert "http://mirror.test:99999/debian" in told
    assert "secret" not in told
