from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest
from waiting import until  # a helper of all unit tests

from hostvm import process, qemu_binary
from hostvm.errors import DriverError, HostvmError
from images.progress import NullProgress

if TYPE_CHECKING:
    from pathlib import Path

GREETING = '{"QMP": {"version": {"qemu": {"micro": %d, "minor": %d, "major": %d}, "package": ""}, "capabilities": []}}'


def answers(version=(7, 2, 22), target="x86_64"):
    return f'{GREETING % version[::-1]}\n{{"return": {{}}}}\n{{"return": {{"arch": "{target}"}}}}\n{{"return": {{}}}}\n'


def program(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{name}.exe" if sys.platform == "win32" else name)
    path.write_text("")
    path.chmod(0o755)
    return path


@pytest.fixture
def says(monkeypatch, tmp_path):
    """What every program that is run prints; well-known places are empty, PATH is tmp_path/bin."""
    output = {"text": answers(), "status": 0, "error": None}

    def run(argv, **_):
        if output["error"]:
            raise output["error"]
        return process.Result(tuple(map(str, argv)), output["status"], output["text"].encode(), b"")

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(qemu_binary, "_wheel_folders", lambda: iter(()))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("HOSTVM_QEMU", raising=False)
    return output


@pytest.fixture
def _only_path(monkeypatch, tmp_path):
    monkeypatch.setattr(qemu_binary, "_folders", lambda: iter([tmp_path / "bin"]))


def test_answers_hold_version_and_target():
    assert qemu_binary.parse_answers(answers((10, 0, 7), "aarch64")) == ((10, 0, 7), "aarch64")


@pytest.mark.parametrize("text", ["", "hello\n", '{"return": {"arch": "x86_64"}}\n', GREETING % (0, 1, 7)])
def test_what_is_not_qemu_is_told_apart(text):
    assert qemu_binary.parse_answers(text) is None


VERSION = "QEMU emulator version %s\nCopyright (c) 2003-2026 Fabrice Bellard and the QEMU Project developers\n"


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (VERSION % "10.0.2 (v10.0.2)", "qemu-system-x86_64.exe", ((10, 0, 2), "x86_64")),
        (VERSION % "10.2.91 (v11.0.0-rc1)", "qemu-system-x86_64.EXE", ((11, 0, 0), "x86_64")),
        (VERSION % "9.2.4", "qemu-system-aarch64w.exe", ((9, 2, 4), "aarch64w")),
        (VERSION % "9.2.4", "my-qemu.exe", ((9, 2, 4), "")),
        ("not QEMU", "qemu-system-x86_64.exe", None),
    ],
)
def test_what_version_tells(text, name, found):
    assert qemu_binary.parse_version(text, name) == found


def test_a_release_candidate_counts_as_the_release():
    assert qemu_binary.release(10, 2, 91) == (11, 0, 0)
    assert qemu_binary.release(10, 0, 90) == (10, 1, 0)
    assert qemu_binary.release(10, 2, 3) == (10, 2, 3)


def test_found_on_path(says, tmp_path):
    path = program(tmp_path / "bin", "qemu-system-x86_64")
    found = qemu_binary.find_qemu("amd64")
    assert (found.path, found.arch, found.version_text) == (path, "amd64", "7.2.22")


def test_one_that_is_asked_ahead_is_asked_once(says, tmp_path, monkeypatch):
    """Who needs it meanwhile waits for that answer."""
    program(tmp_path / "bin", "qemu-system-x86_64")
    asked, answer, run = [], threading.Event(), process.run

    def slowly(argv, **options):
        asked.append(argv)
        assert answer.wait(10)
        return run(argv, **options)

    monkeypatch.setattr(process, "run", slowly)
    qemu_binary.ask_ahead("amd64")
    until(lambda: asked)
    threading.Timer(0.2, answer.set).start()
    assert qemu_binary.find_qemu("amd64").version == (7, 2, 22)
    assert len(asked) == 1


def test_what_is_wrong_with_one_that_is_asked_ahead_is_told_to_who_needs_it(says, tmp_path, capfd):
    says["text"] = "no QEMU"
    program(tmp_path / "bin", "qemu-system-x86_64")
    qemu_binary.ask_ahead("amd64")
    until(lambda: all(thread.name != "qemu-version" for thread in threading.enumerate()))
    with pytest.raises(DriverError, match="is not a QEMU that works"):
        qemu_binary.find_qemu("amd64")
    assert capfd.readouterr() == ("", "")


def test_a_folder_may_be_named(says, tmp_path, monkeypatch):
    path = program(tmp_path / "opt", "qemu-system-x86_64")
    monkeypatch.setenv("HOSTVM_QEMU", str(tmp_path / "opt"))
    assert qemu_binary.find_qemu("amd64").path == path


def test_a_program_of_any_name_may_be_named_and_its_helper_is_beside_it(says, tmp_path, monkeypatch):
    path = program(tmp_path / "opt", "my-qemu")
    helper = program(tmp_path / "opt", "qemu-img")
    monkeypatch.setenv("HOSTVM_QEMU", str(path))
    assert qemu_binary.find_qemu("amd64").path == path
    assert qemu_binary.find_qemu_img() == helper


def test_a_named_program_of_another_architecture_leads_to_its_sibling(says, tmp_path, monkeypatch):
    wanted = program(tmp_path / "opt", "qemu-system-x86_64")
    monkeypatch.setenv("HOSTVM_QEMU", str(program(tmp_path / "opt", "qemu-system-aarch64")))
    assert qemu_binary.find_qemu("amd64").path == wanted


def test_a_named_place_without_the_program_is_an_error(says, tmp_path, monkeypatch):
    monkeypatch.setenv("HOSTVM_QEMU", str(tmp_path))
    with pytest.raises(DriverError) as caught:
        qemu_binary.find_qemu("arm64")
    assert caught.value == DriverError(
        "HOSTVM_QEMU does not lead to qemu-system-aarch64",
        f"HOSTVM_QEMU is {tmp_path}; there is no qemu-system-aarch64 in {tmp_path}",
        "Look again: unset HOSTVM_QEMU",
    )


def test_a_binary_that_lies_about_its_architecture_is_named(says, tmp_path):
    path = program(tmp_path / "bin", "qemu-system-aarch64")
    with pytest.raises(DriverError) as caught:
        qemu_binary.find_qemu("arm64")
    assert caught.value.brief == f"{path} emulates x86_64, not aarch64"
    assert caught.value.resolution


@pytest.mark.usefixtures("_only_path")
@pytest.mark.parametrize(
    ("platform", "command"),
    [
        ("linux", "sudo apt-get install --no-install-recommends qemu-system-arm"),
        ("darwin", "brew install qemu"),
        ("win32", "winget install --id SoftwareFreedomConservancy.QEMU"),
    ],
)
def test_a_missing_qemu_is_told_with_the_command_that_installs_it(says, monkeypatch, platform, command):
    monkeypatch.setattr(qemu_binary, "_find_program", lambda _: None)  # shutil.which asks the real Windows
    monkeypatch.setattr(qemu_binary.sys, "platform", platform)
    with pytest.raises(DriverError) as caught:
        qemu_binary.find_qemu("arm64")
    assert caught.value.brief == "QEMU for arm64 guests was not found"
    assert caught.value.resolution == f"Install it: {command}"


@pytest.mark.usefixtures("_only_path")
def test_a_missing_qemu_img(says):
    with pytest.raises(DriverError, match="qemu-img, which makes the machines' disks, was not found"):
        qemu_binary.find_qemu_img()


def test_too_old(says, tmp_path):
    says["text"] = answers((5, 2, 0))
    program(tmp_path / "bin", "qemu-system-x86_64")
    with pytest.raises(DriverError, match=r"found 5\.2\.0, needed 6\.0 or later"):
        qemu_binary.find_qemu("amd64")


def test_not_qemu_at_all(says, tmp_path):
    says["text"] = "usage: something"
    program(tmp_path / "bin", "qemu-system-x86_64")
    with pytest.raises(DriverError, match="is not a QEMU that works"):
        qemu_binary.find_qemu("amd64")


def test_one_that_does_not_start(says, tmp_path):
    says["error"] = HostvmError("cannot start", "exec format error")
    program(tmp_path / "bin", "qemu-system-x86_64")
    with pytest.raises(DriverError, match="exec format error"):
        qemu_binary.find_qemu("amd64")


def test_one_that_is_gone(tmp_path):
    with pytest.raises(DriverError, match="is gone"):
        qemu_binary.inspect_qemu(tmp_path / "qemu-system-x86_64", "amd64")


def test_a_wheels_firmware_is_named_on_the_command_line(says, tmp_path, monkeypatch):
    path = program(tmp_path / "bin", "qemu-system-x86_64")
    (tmp_path / "bin" / "share" / "qemu").mkdir(parents=True)
    assert qemu_binary.find_qemu("amd64").command == [str(path), "-L", str(tmp_path / "bin" / "share" / "qemu")]


def test_firmware_that_a_wheel_lacks_is_fetched(says, tmp_path, monkeypatch):
    program(tmp_path / "bin", "qemu-system-x86_64")
    own = tmp_path / "bin" / "share" / "qemu"
    rom = tmp_path / "cache" / "firmware" / "pvh.bin"
    monkeypatch.setattr("images.firmware.pvh_rom", lambda *_: rom)
    assert qemu_binary.complete_qemu("amd64", tmp_path / "cache", NullProgress()).firmware == ()
    own.mkdir(parents=True)
    assert qemu_binary.find_qemu("amd64").firmware == ()  # asked once per process and program
    qemu_binary._inspect.cache_clear()
    assert qemu_binary.complete_qemu("amd64", tmp_path / "cache", NullProgress()).firmware == (own, rom.parent)
    (own / "pvh.bin").write_text("")
    assert qemu_binary.complete_qemu("amd64", tmp_path / "cache", NullProgress()).firmware == (own,)


@pytest.mark.parametrize("place", ["share/qemu", "bin/share", "told"])
def test_firmware_is_looked_for_where_builds_keep_it(place, tmp_path):
    qemu = tmp_path / "bin" / "qemu-system-x86_64"
    qemu.parent.mkdir()
    qemu.touch()
    told = [tmp_path / "told"]
    assert not qemu_binary.has_firmware(qemu, told, "qboot.rom")
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "qboot.rom").touch()
    assert qemu_binary.has_firmware(qemu, told, "qboot.rom")
    assert not qemu_binary.has_firmware(qemu, told, "other.rom")
