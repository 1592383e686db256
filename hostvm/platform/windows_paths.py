r"""Windows' many spellings of one path, and the one place where it lies in the guest. Pure: runs anywhere.

`C:\Users\me`, `c:/Users/me`, `/c/Users/me` (Git Bash), `/cygdrive/c/...`, `/host_mnt/c/...` (Docker Desktop) and
`/mnt/c/...` (WSL) are all `/c/Users/me` in the guest. Why that one: compose on Windows makes it by itself
(COMPOSE_CONVERT_WINDOWS_PATHS), Git Bash's `$(pwd)` is it already, so both work even where hostvm sees no words.
"""

from __future__ import annotations

import posixpath
import re

from hostvm.errors import ForwardError

_DRIVE = re.compile(r"([A-Za-z]):")
# A drive's letter and colon belong to the path, as docker's own parser has it; no volume has a one-letter name.
_SOURCE = re.compile(r"((?:[\\/]{2}[?.][\\/])?[A-Za-z]:[^:]*|[^:]*)(?::(.*))?", re.DOTALL)
# After normalising slashes; one letter is a drive, "//server/share" is not.
_MOUNTED = re.compile(
    r"(?://?|/cygdrive/|/mnt/|/host_mnt/|/mnt/host/|/run/desktop/mnt/host/)([A-Za-z])(/.*|)", re.DOTALL
)
_EXTENDED = ("//?/", "//./")
# "//var/run/docker.sock": the second slash keeps Git Bash's hands off a path of the guest.
_LINUX = frozenset(
    {
        *("bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin"),
        *("srv", "sys", "tmp", "usr", "var"),
    }
)
_GUEST = re.compile(r"/([a-z])(/.*|)", re.DOTALL)


def guest_path(path: str, folder: str = "") -> str:
    r"""Where a path of this computer lies in the guest.

    An absolute POSIX path that names no drive (`/var/run/docker.sock`) is the guest's own and stays.

    :param path: any of the spellings; a relative one counts from `folder`.
    :param folder: an absolute Windows path; "" leaves a relative path relative, with slashes.
    :raises ForwardError: a network folder (`\\server\share`), a device (`\\.\pipe\x`), or a drive without a path
        (`C:x`) other than `folder`'s.
    """
    plain = _plain(path)
    if plain.startswith(_EXTENDED):
        raise ForwardError(
            f"{path} is a pipe or device of Windows, which the guest cannot see",
            "only folders and files on this computer's drives are shared with it",
            "the engine's own socket is in the guest: -v /var/run/docker.sock:/var/run/docker.sock",
        )
    if plain.startswith("/"):
        return _absolute(plain, path)
    drive = _DRIVE.match(plain)
    if drive is None:
        if not folder:
            return posixpath.normpath(plain)
        return guest_path(f"{folder}/{plain}")
    rest = plain[drive.end() :]
    if rest and not rest.startswith("/"):
        if _plain(folder)[:2].lower() != drive[0].lower():
            raise ForwardError(
                f"{path} counts from the current folder of another drive",
                "docker in the guest cannot know that folder",
                rf"write the whole path: {drive[0]}\folder\{rest.replace('/', chr(92))}",
            )
        return guest_path(f"{folder}/{rest}")
    return _joined(drive[1], rest)


def guest_folder(folder: str) -> str | None:
    """Where a folder of this computer lies in the guest; None for a network folder, which lies nowhere there."""
    try:
        return guest_path(folder)
    except ForwardError:
        return None


def windows_path(path: str) -> str | None:
    """The way back: what a guest's path is called on this computer; None when it lies on none of its drives."""
    found = _GUEST.fullmatch(posixpath.normpath(path))
    if found is None:
        return None
    return f"{found[1].upper()}:" + (found[2] or "/").replace("/", "\\")


def cut_source(text: str) -> tuple[str, str | None]:
    r"""What stands before the first colon that is no drive's, and what follows it; None: there is none."""
    found = _SOURCE.fullmatch(text)
    assert found is not None, "it fits all texts"
    return found[1], found[2]


def has_drive(path: str) -> bool:
    r"""Whether a word is a path that names one of this computer's places: a drive, `\\?\` or `\\server`."""
    plain = path.replace("\\", "/")
    return bool(_DRIVE.match(plain) or _MOUNTED.fullmatch(plain) or plain.startswith("//"))


def is_relative(path: str) -> bool:
    r"""Whether a word is a path below or above the current folder, as `.`, `..`, `.\x` and `../x` are."""
    return path.replace("\\", "/").split("/", 1)[0] in {".", ".."}


def _plain(path: str) -> str:
    r"""Slashes only; `\\?\C:\x` becomes `C:/x` and `\\?\UNC\server\share` becomes `//server/share`; a device stays."""
    plain = path.replace("\\", "/")
    if plain.startswith(_EXTENDED):
        inside = plain[4:]
        if inside[:4].upper() == "UNC/":
            return f"//{inside[4:]}"
        if _DRIVE.match(inside):
            return inside
    return plain


def _absolute(plain: str, told: str) -> str:
    mounted = _MOUNTED.fullmatch(plain)
    if mounted is not None:
        return _joined(mounted[1], mounted[2])
    server, _, share = plain.removeprefix("//").partition("/")
    if plain.startswith("//") and share and not (server in _LINUX and told.startswith("//")):
        raise ForwardError(
            f"{told} is a network folder, which the guest cannot see",
            "only folders on this computer's drives are shared with it",
            rf"give it a drive letter: net use Z: {told.replace('/', chr(92))}   # then share and use Z:\ ",
        )
    return posixpath.normpath("/" + plain.lstrip("/"))


def _joined(letter: str, rest: str) -> str:
    """`..` ends at the drive's root, as on Windows."""
    below = posixpath.normpath("/" + rest.lstrip("/"))
    return f"/{letter.lower()}" + ("" if below == "/" else below)
