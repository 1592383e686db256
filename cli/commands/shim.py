"""shim install, rm, ls."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands.common import chosen_paths, print_json, print_table, say
from cli.engine_link import is_ours, make_link, remove_link
from cli.shims import PROGRAMS, is_shim, launcher, native_client, programs_of
from hostvm.errors import HostvmError, UsageError
from hostvm.files import user_path, write_atomic
from hostvm.own import own_argv, search_path
from hostvm.spec import default_spec, load_spec

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths


def install(options: argparse.Namespace) -> int:
    """Put the launchers on PATH, and the link to the engine's socket when asked for."""
    paths = chosen_paths(options)
    folder = _folder(options)
    facts = [_install(program, folder, options) for program in programs_of(_engine(paths))]
    if options.socket:
        facts.append(_link(Path(options.socket), paths, options))
    if options.json:
        return print_json(facts)
    for fact in facts:
        say(options, f"{fact['path']}: {fact['done']}")
    if str(folder) not in os.get_exec_path() and any(fact["done"] == "installed" for fact in facts):
        say(options, f"{folder} is not on PATH; add it: {_add_to_path(folder)}")
    return 0


def _install(program: str, folder: Path, options: argparse.Namespace) -> dict[str, str]:
    command = hostvm_command()
    # Its own script finds the modules by itself.
    module_path = search_path().get("PYTHONPATH", "") if len(command) > 1 else ""
    name, content = launcher(program, command, options.name or options.machine or "", module_path=module_path)
    target = folder / name
    native = native_client(program)
    if target.exists() and not is_shim(target):
        return {"path": str(target), "done": "left alone: a file that is not hostvm's"}
    if native is not None and not options.force:
        return {"path": str(target), "done": f"not needed: {native} is here (--force puts a launcher all the same)"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(target, content, 0o755)
    except OSError as fault:
        raise HostvmError(
            f"{target} cannot be written", fault.strerror, f"hostvm shim install --dir {_default_folder()}"
        ) from fault
    return {"path": str(target), "done": "installed"}


def _link(link: Path, paths: MachinePaths, options: argparse.Namespace) -> dict[str, str]:
    if sys.platform == "win32":
        raise UsageError("Windows has no such socket", None, "use the docker context: hostvm context use")
    if not options.yes and not _agreed(f"Make {link} a link to the socket of machine {paths.name}?"):
        return {"path": str(link), "done": "not made"}
    return {"path": str(link), "done": "linked" if make_link(link, paths.docker_sock) else "linked already"}


def _agreed(question: str) -> bool:
    """Whether a person says yes. Without one the answer is no: other programs use that path."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("--socket asks first, and nobody can answer here", None, "hostvm shim install --socket --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def remove(options: argparse.Namespace) -> int:
    """Take away every launcher that is found, and the link when it is ours."""
    gone: list[str] = []
    for launched in _installed(options):
        try:
            launched.unlink()
        except OSError as fault:
            raise HostvmError(f"{launched} cannot be removed", fault.strerror, f"sudo rm {launched}") from fault
        gone.append(str(launched))
    if sys.platform != "win32" and remove_link(Path(options.socket)):
        gone.append(options.socket)
    if options.json:
        return print_json(gone)
    for path in gone:
        say(options, f"{path}: removed")
    if not gone:
        say(options, "there is no launcher of hostvm's on PATH; others: hostvm shim rm --dir DIR")
    return 0


def ls(options: argparse.Namespace) -> int:
    """The launchers that are found, and what they stand before."""
    facts = []
    for path in _installed(options):
        native = native_client(path.name.removesuffix(".cmd"))
        facts.append({"program": path.name.removesuffix(".cmd"), "path": str(path), "native": native or ""})
    link = Path(options.socket)
    if is_ours(link):
        facts.append({"program": "socket", "path": str(link), "native": ""})
    if options.json:
        return print_json(facts)
    print_table(("PROGRAM", "PATH", "NATIVE CLIENT"), [(one["program"], one["path"], one["native"]) for one in facts])
    return 0


def hostvm_command() -> list[str]:
    """What starts this very hostvm from anywhere."""
    script = Path(sys.executable).with_name("hostvm.exe" if sys.platform == "win32" else "hostvm")
    return [str(script)] if script.exists() else own_argv("cli.main")


def _installed(options: argparse.Namespace) -> list[Path]:
    ending = ".cmd" if sys.platform == "win32" else ""
    folders = dict.fromkeys(
        [*([str(_folder(options))] if options.dir else [*os.get_exec_path(), str(_default_folder())])]
    )
    candidates = [Path(folder, program + ending) for folder in folders for program in PROGRAMS]
    return [path for path in candidates if is_shim(path)]


def _folder(options: argparse.Namespace) -> Path:
    return user_path(options.dir).absolute() if options.dir else _default_folder()


def _default_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local", "hostvm", "bin")
    return Path.home() / ".local" / "bin"


def _add_to_path(folder: Path) -> str:
    if sys.platform == "win32":
        # For cmd and PowerShell. Not setx: it cuts a PATH at 1024 characters and puts the system's into the user's.
        quoted = str(folder).replace("'", "''")
        get, set_ = "[Environment]::GetEnvironmentVariable", "[Environment]::SetEnvironmentVariable"
        return f"powershell -NoProfile -Command \"{set_}('Path', '{quoted};' + {get}('Path', 'User'), 'User')\""
    return f"export PATH={shlex.quote(str(folder))}:$PATH"


def _engine(paths: MachinePaths) -> str:
    return (load_spec(paths.spec) if paths.spec.exists() else default_spec()).engine
