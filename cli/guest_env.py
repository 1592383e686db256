"""Which of the user's variables a forwarded program sees.

An engine's client reads its environment for its user: `-e NAME` and `--build-arg NAME` without a value, compose
files with ${NAME}, DOCKER_BUILDKIT. So it gets the user's variables, less those that describe this computer and
would mislead a program on another one. Imports nothing heavy.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE = frozenset(
    {
        *("_", "BASH_ENV", "COLUMNS", "CDPATH", "DISPLAY", "EDITOR", "ENV", "EUID", "HISTFILE", "HOME", "HOSTNAME"),
        *("HOSTTYPE", "IFS", "INFOPATH", "JAVA_HOME", "LINES", "LOGNAME", "LS_COLORS", "MACHTYPE", "MAIL", "MANPATH"),
        *("OLDPWD", "OPTIND", "OSTYPE", "PAGER", "PATH", "PPID", "PROMPT_COMMAND", "PS1", "PS2", "PS4", "PWD"),
        *("SHELL", "SHELLOPTS", "BASHOPTS", "SHLVL", "SUDO_ASKPASS", "TEMP", "TERM", "TERMCAP", "TERMINFO", "TMP"),
        *("TMPDIR", "TZDIR", "UID", "USER", "USERNAME", "VIRTUAL_ENV", "VISUAL", "WINDOWID", "XAUTHORITY"),
        *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_TLS_VERIFY"),
        *("CONTAINER_HOST", "CONTAINER_CONNECTION", "SSL_CERT_FILE", "SSL_CERT_DIR", "LANG", "LANGUAGE"),
    }
)
_HERE_PREFIXES = (
    *("BASH_FUNC_", "CONDA_", "DBUS_", "DYLD_", "GPG_", "GTK_", "HOSTVM_", "LC_", "LD_", "NIX_", "PYENV_", "PYTHON"),
    *("QT_", "SSH_", "SYSTEMD_", "TERM_", "TMUX", "WAYLAND_", "XDG_"),
)
# On Linux a user may well have an `OS` or `PUBLIC` of his own.
_HERE_ON_WINDOWS = frozenset(
    {
        *("ALLUSERSPROFILE", "APPDATA", "COMSPEC", "DRIVERDATA", "EXEPATH", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA"),
        *("LOGONSERVER", "ONEDRIVE", "OS", "PATHEXT", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMW6432", "PROMPT"),
        *("NUMBER_OF_PROCESSORS", "PSMODULEPATH", "PUBLIC", "SYSTEMDRIVE", "SYSTEMROOT", "USERDOMAIN", "USERPROFILE"),
        *("COMMONPROGRAMFILES", "COMMONPROGRAMW6432", "WINDIR", "WSLENV"),
    }
)
_HERE_ON_WINDOWS_PREFIXES = ("MINGW_", "MSYS", "ORIGINAL_", "PROCESSOR_", "USERDOMAIN_")
# The whole command must fit into one Linux argument of 128 KiB.
_MOST = 64 * 1024
_ALWAYS = ("COLORTERM", "NO_COLOR", "CLICOLOR", "FORCE_COLOR", "TZ")


def plain_env(environ: Mapping[str, str]) -> dict[str, str]:
    """For a program of the guest's own: how the user likes colours, and the time zone."""
    return {name: environ[name] for name in _ALWAYS if name in environ}


def engine_env(environ: Mapping[str, str]) -> dict[str, str]:
    """For an engine's client: the user's variables; beyond 64 KiB the longest are left out."""
    chosen = [(name, _seen_there(name, value)) for name, value in environ.items() if _travels(name)]
    found, size = {}, 0
    for name, value in sorted(chosen, key=lambda pair: len(pair[1])):
        size += len(name) + len(value.encode("utf-8", "surrogateescape")) + 4
        if size > _MOST:
            break
        found[name] = value
    return dict(sorted(found.items()))


def project_env(environ: Mapping[str, str], docker_config: str) -> dict[str, str]:
    """What compose files mean by `~`, ${HOME} and ${USER}: this computer's, whose folders are named so.

    :param docker_config: the guest's folder of docker's settings, which would be looked for in `~`.
    """
    home = environ.get("USERPROFILE") if sys.platform == "win32" else environ.get("HOME")
    found = {name: environ[name] for name in ("USER", "LOGNAME", "USERNAME") if name in environ}
    if home and sys.platform == "win32":
        from hostvm.platform.windows_paths import guest_folder

        home = guest_folder(home)
    return {**found, "HOME": home, "DOCKER_CONFIG": docker_config} if home else found


def _seen_there(name: str, value: str) -> str:
    """A proxy on this computer's loopback is not on the guest's."""
    if not name.lower().endswith("_proxy"):
        return value
    from hostvm.net.loopback import PROXY_VARIABLES, seen_from_guest

    return seen_from_guest(value, "host.docker.internal") if name.upper() in PROXY_VARIABLES else value


def _travels(name: str) -> bool:
    if sys.platform == "win32" and (name in _HERE_ON_WINDOWS or name.startswith(_HERE_ON_WINDOWS_PREFIXES)):
        return False
    return name.isidentifier() and name.isascii() and name not in _HERE and not name.startswith(_HERE_PREFIXES)
