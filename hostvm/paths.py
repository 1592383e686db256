"""Every file and socket name of hostvm, once. docs/internals.md explains each; a test compares the two.

Imports nothing heavy: the forwarding client needs these before it may spend a millisecond.
"""

from __future__ import annotations

import os
import stat
import sys

from hostvm.errors import SpecError

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_MACHINE = "default"

# A machine's name is a host name label, so that the guest can be called by it; 24 letters keep socket paths within
# macOS' 104 bytes.
_NAME_MOST = 24
_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

# Windows' devices, in every folder and whatever follows a dot: `locks\\con.lock` is the console.
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})

# sun_path holds 104 bytes on macOS and 108 on Linux, the final NUL included.
SOCKET_PATH_MAX = 103

WINDOWS_PATH_MAX = 259

MACHINE_YAML = "machine.yaml"
MACHINE_YAML_EDIT = "machine.edit.yaml"
MACHINE_YAML_EDIT_BASE = "machine.edit.base.yaml"
STATE_JSON = "state.json"
DATA_DISK = "data.qcow2"
KEYS = "keys"
CLIENT_KEY = "client_ed25519"
HOST_KEY = "host_ed25519"
CONSOLE_LOG = "console.log"
CONSOLE_LOG_BEFORE = "console.log.1"
AGENT_LOG = "agent.log"
PROVISION_LOG = "provision.log"
BOOT_INITRAMFS = "boot.initramfs"
SUSPENDED_JSON = "suspended.json"
SUSPENDED_RAM = "suspended.ram"
REGISTRY_JSON = "registry.json"
REGISTRY_CA = "registry-ca.pem"

LAYERS = ".layers"
SNAPSHOTS = "snapshots"
SNAPSHOT_JSON = "snapshot.json"

IMAGE_KEYS = "image-keys"

AGENT_SOCK = "agent.sock"
AGENT_JSON = "agent.json"
AGENT_LOCK = "agent.lock"
DOCKER_SOCK = "docker.sock"
SLEEPER_SOCK = "sleep.sock"
QMP_SOCK = "qmp.sock"
BOOTED_YAML = "booted.yaml"
DOMAIN_JSON = "domain.json"
PAUSED_TXT = "paused.txt"
SHARES_JSON = "shares.json"
SHARE_SERVER_JSON = "share-server.json"
SHARES_BEFORE = "shares-before.json"
SHARE_PLACES = "share-places.db"
NAMES_SOCK = "names.sock"

DOCKER_PIPE = "docker_engine-hostvm"
"""Windows: the engine's API on this computer, of the machine `default`; others add `-NAME`."""


def home() -> Path:
    """`HOSTVM_HOME`, where machines are kept."""
    if value := os.environ.get("HOSTVM_HOME"):
        from pathlib import Path

        return Path(value).absolute()
    from platformdirs import user_data_path

    return user_data_path("hostvm", appauthor=False)


def image_keys() -> Path:
    """Keys that guest images are signed with, and those whose images are taken."""
    return home() / IMAGE_KEYS


def layers() -> Path:
    """Disks that machines and snapshots share and nobody writes to; as deep as a machine's own folder."""
    return home() / "machines" / LAYERS


def cache() -> Path:
    """`HOSTVM_CACHE`, packages and images that can be had again."""
    if value := os.environ.get("HOSTVM_CACHE"):
        from pathlib import Path

        return Path(value).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("hostvm", appauthor=False)


def run() -> Path:
    """`HOSTVM_RUN`, sockets of running machines; short, for the limit above."""
    from pathlib import Path

    return Path(_run())


def run_folder(name: str) -> str:
    """`MachinePaths.of(name).run_dir` for the forwarding client, which has no time for pathlib.

    :raises SpecError: no machine can have that name.
    """
    return os.path.join(_run(), check_name(name))  # noqa: PTH118


def _run() -> str:
    if value := os.environ.get("HOSTVM_RUN"):
        return os.path.abspath(value)  # noqa: PTH100
    if sys.platform == "darwin":
        # The system's own temporary folder is some 50 bytes long and is swept; the home folder is neither.
        return os.path.expanduser("~/.hostvm")  # noqa: PTH111
    if sys.platform != "win32":
        user = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        # Without a login session there is no such folder; `MachinePaths.make_run_dir` closes the other one to others.
        return f"{user}/hostvm" if os.access(user, os.W_OK) else f"/tmp/hostvm-{os.getuid()}"  # noqa: S108
    from platformdirs import user_runtime_dir

    return user_runtime_dir("hostvm", appauthor=False)


def check_places() -> None:
    """Look at the folders that the environment names; what is asked for in one that is none would be told as missing.

    :raises SpecError: one is a file, or would be in one.
    """
    for variable in ("HOSTVM_HOME", "HOSTVM_RUN", "HOSTVM_CACHE"):
        place = os.environ.get(variable)
        if not place:
            continue
        try:
            is_folder = stat.S_ISDIR(os.stat(place).st_mode)  # noqa: PTH116
            why = f"{place} is a file"
        except NotADirectoryError as fault:
            is_folder, why = False, str(fault)
        except OSError:
            continue  # it is made when it is needed, or whoever cannot make it says so
        if is_folder:
            continue
        usual = f"set {variable}=" if sys.platform == "win32" else f"unset {variable}"
        raise SpecError(f"{variable} names no folder", why, f"name one, or have the usual: {usual}")


def is_name(name: str) -> bool:
    """Whether a machine may have that name: 1 to 24 lower-case letters, digits, inner hyphens; no device on Windows."""
    if sys.platform == "win32" and name in _DEVICES:
        return False
    return 1 <= len(name) <= _NAME_MOST and _NAME_LETTERS.issuperset(name) and "-" not in (name[0], name[-1])


def check_name(name: str) -> str:
    """The name itself when a machine may have it.

    :raises SpecError: otherwise.
    """
    if not is_name(name):
        raise SpecError(
            f"'{name}' cannot be a machine's name",
            "Windows has a device of that name"
            if name in _DEVICES
            else "a name has 1 to 24 lower-case letters, digits and inner hyphens",
            "try, for example: hostvm start my-machine",
        )
    return name


def machine_option(name: str) -> str:
    """What follows a command that is to be pasted, so that it is of the same machine."""
    return "" if name == DEFAULT_MACHINE else f" -m {name}"


def docker_pipe(name: str) -> str:
    """The name of a machine's pipe for docker clients on Windows."""
    return DOCKER_PIPE if name == DEFAULT_MACHINE else f"{DOCKER_PIPE}-{name}"


class MachinePaths:
    """Where one machine's files are. A plain class: see `images.failure.HostvmError`."""

    __slots__ = ("folder", "name", "run_dir")

    def __init__(self, name: str, folder: Path, run_dir: Path) -> None:
        self.name = name
        self.folder = folder
        self.run_dir = run_dir

    @classmethod
    def of(cls, name: str) -> MachinePaths:
        """The places of the machine `name`, whether it exists or not."""
        return cls(check_name(name), home() / "machines" / name, run() / name)

    @property
    def lock(self) -> Path:
        """Held by every command that changes the machine; outside its folder so that it outlives `rm`."""
        return self.folder.parent.parent / "locks" / f"{self.name}.lock"

    @property
    def spec(self) -> Path:
        """What the user wants."""
        return self.folder / MACHINE_YAML

    @property
    def spec_draft(self) -> Path:
        """What the user wrote with `edit` and could not be saved yet."""
        return self.folder / MACHINE_YAML_EDIT

    @property
    def spec_draft_base(self) -> Path:
        """What that began from."""
        return self.folder / MACHINE_YAML_EDIT_BASE

    @property
    def edit_lock(self) -> Path:
        """Held by an `edit` while its editor is open: the machine's own lock is free meanwhile."""
        return self.lock.with_name(f".{self.name}.edit.lock")

    @property
    def booted_spec(self) -> Path:
        """What the user wanted when the machine was started last."""
        return self.run_dir / BOOTED_YAML

    @property
    def state(self) -> Path:
        """What was made."""
        return self.folder / STATE_JSON

    @property
    def data_disk(self) -> Path:
        """The machine's only disk."""
        return self.folder / DATA_DISK

    @property
    def keys(self) -> Path:
        """ssh keys."""
        return self.folder / KEYS

    @property
    def console(self) -> Path:
        """The guest's serial console, this boot."""
        return self.folder / CONSOLE_LOG

    @property
    def agent_log(self) -> Path:
        """What the agent did."""
        return self.folder / AGENT_LOG

    @property
    def provision_log(self) -> Path:
        """What the scripts of `provision:` said."""
        return self.folder / PROVISION_LOG

    @property
    def initramfs(self) -> Path:
        """The image's initramfs with this boot's seed appended."""
        return self.folder / BOOT_INITRAMFS

    @property
    def suspended(self) -> Path:
        """What a suspended machine needs to go on; while it is there, so is `suspended_ram`."""
        return self.folder / SUSPENDED_JSON

    @property
    def suspended_ram(self) -> Path:
        """A suspended machine's memory and devices, as its hypervisor wrote them."""
        return self.folder / SUSPENDED_RAM

    @property
    def snapshots(self) -> Path:
        """A folder for each of its snapshots."""
        return self.folder / SNAPSHOTS

    @property
    def domain(self) -> Path:
        """What the machine was powered on with."""
        return self.run_dir / DOMAIN_JSON

    @property
    def paused_why(self) -> Path:
        """Why it was paused where it was to be suspended."""
        return self.run_dir / PAUSED_TXT

    @property
    def agent_sock(self) -> Path:
        """The agent's own socket."""
        return self.run_dir / AGENT_SOCK

    @property
    def docker_sock(self) -> Path:
        """The engine's API on the host."""
        return self.run_dir / DOCKER_SOCK

    def make_run_dir(self) -> None:
        """Make the folder of the sockets, 0700. One that lies in a folder everybody may write to is closed as well.

        :raises OSError: it cannot be made, or somebody else made it first.
        """
        from hostvm.files import private_folder

        parent = self.run_dir.parent
        if parent.parent.is_dir() and parent.parent.stat().st_mode & 0o002:
            private_folder(parent)
        private_folder(self.run_dir)

    def check_socket_length(self) -> None:
        """:raises SpecError: a socket's path, or on Windows any of the machine's paths, is over the system's limit."""
        longest = str(self.run_dir / AGENT_LOCK)
        if sys.platform != "win32" and len(os.fsencode(longest)) > SOCKET_PATH_MAX:
            raise SpecError(
                f"the path of the machine's sockets is too long: {longest}",
                f"a Unix socket's path holds {SOCKET_PATH_MAX} bytes; this one has {len(os.fsencode(longest))}",
                f"choose a short folder: export HOSTVM_RUN=/tmp/hostvm-{os.getuid()}",
            )
        # Python opens longer ones where the registry allows it; QEMU does not.
        longest = str(self.keys / f".{CLIENT_KEY}.{'x' * 8}")
        if sys.platform == "win32" and len(longest) > WINDOWS_PATH_MAX:
            raise SpecError(
                f"the path of the machine's files is too long: {longest}",
                f"Windows takes {WINDOWS_PATH_MAX} characters; this one has {len(longest)}",
                "choose a short folder: set HOSTVM_HOME=C:\\hostvm",
            )


def machine_names() -> list[str]:
    """Names of all machines, damaged ones included, sorted."""
    folder = home() / "machines"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and is_name(entry.name))
