"""Words of a command that a user is told to paste, as the shells of this system read them."""

from __future__ import annotations

import sys


def quoted(word: str, platform: str = sys.platform) -> str:
    r"""The word, in quotation marks where it needs them.

    On Windows in double ones, which cmd and PowerShell both know, and a program gets as it was. What they put in for
    `%NAME%` and `$name` even there cannot be kept from both.
    """
    if platform != "win32":
        import shlex  # for forwarding clients every millisecond counts

        return shlex.quote(word)
    import re

    if re.fullmatch(r"[\w./\\:+=-]+", word):
        return word
    # A backslash before a quotation mark takes that as it is; the one at the end is ours.
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def make_folder(folder: str, platform: str = sys.platform) -> str:
    """The command that makes a folder and those above it."""
    return f"mkdir {'' if platform == 'win32' else '-p '}{quoted(folder, platform)}"


def delete_file(file: str, platform: str = sys.platform) -> str:
    """The command that deletes a file."""
    return f"{'del' if platform == 'win32' else 'rm'} {quoted(file, platform)}"


def show_file(file: str, platform: str = sys.platform) -> str:
    """The command that shows a text."""
    return f"{'more' if platform == 'win32' else 'less'} {quoted(file, platform)}"


def show_folder(folder: str = "", option: str = "-l", platform: str = sys.platform) -> str:
    """The command that lists a folder, or a file; without one where it is typed.

    :param option: of ls.
    """
    return " ".join(["dir" if platform == "win32" else f"ls {option}", *([quoted(folder, platform)] if folder else [])])


def free_room(*folders: str, platform: str = sys.platform) -> str:
    """The command that shows how much room the disks of folders have; on Windows a line for each disk."""
    if platform != "win32":
        return " ".join(["df -h", *(quoted(folder, platform) for folder in folders)])
    import ntpath

    drives = [ntpath.splitdrive(ntpath.abspath(folder))[0] or folder for folder in folders or ("C:",)]
    return "\n".join(f"fsutil volume diskfree {quoted(drive, platform)}" for drive in dict.fromkeys(drives))


def set_variable(name: str, value: str, platform: str = sys.platform) -> str:
    """The command that sets a variable for what is started after it; on Windows cmd's, and PowerShell's beside it."""
    if platform != "win32":
        return f"export {name}={value}"
    return f"set {name}={value}   (PowerShell: $Env:{name} = '{value}')"


def end_process(pid: int, platform: str = sys.platform) -> str:
    """The command by which an administrator ends a process that does not end by itself."""
    return f"taskkill /F /PID {pid}" if platform == "win32" else f"sudo kill -9 {pid}"


def show_process(pid: int, platform: str = sys.platform) -> str:
    """The command that tells what a process waits for; on Windows, what it is."""
    return f'tasklist /V /FI "PID eq {pid}"' if platform == "win32" else f"ps -o pid,stat,wchan -p {pid}"


def in_turn(*commands: str, between: str = " && ", platform: str = sys.platform) -> str:
    """Commands that are to be run one after the other. On Windows they are lines: its two shells share no sign.

    :param between: what stands between them elsewhere.
    """
    return ("\n" if platform == "win32" else between).join(commands)
