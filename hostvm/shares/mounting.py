"""Mounting and unmounting in the guest, as programs that run there."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.errors import MachineError
from hostvm.shares.device import COVER, device_kind, mount_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostvm.guest import Completed, Guest
    from hostvm.shares.device import DeviceShare
    from hostvm.shares.model import Mount

SECONDS = 20.0
_DATA_SECONDS = 900.0
"""For the guest's data disk, which may be repaired first."""

_LATER = 75
"""Status of what waited some seconds for the data disk, and is to be asked again: a cut connection is noticed so."""

_FACT = re.compile(r"/proc/(\d+)/(comm|cgroup):(.*)")
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_OPEN = re.compile(r"'/proc/(\d+)/(?:cwd|root|fd/\d+)' -> '(.*)'$")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who uses a folder, so that it cannot be unmounted.

    :param container: its id; "" for a program of the guest itself.
    :param program: its name, or the path that it has open.
    """

    container: str
    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class Mounted:
    """What the guest has mounted.

    :param types: each target with its file system's type, the topmost where there are several.
    :param marked: whether `mark_mounted` was done.
    :param nfs: whether the guest's kernel can be a client of NFS.
    """

    types: dict[str, str]
    marked: bool
    nfs: bool


# A container can lay a link for a target inside of another share: what it leads to in the guest must not be covered. So
# it is mounted over the folder that was looked at, whatever its name is by then (`mount -c`); sshfs knows names only.
# No word of these is built from a path: all come as arguments.
_MOUNT = """
target=$1 round=0 disks=/run/hostvm/seed/disks late=; shift
# The data disk and the guest's own folders on it would hide what lay there before (images/files/guest/.../shares).
case "$target/" in /root/* | /home/* | /opt/* | /var/*) late=1 ;; esac
[ ! -f $disks ] || while read -r _ dir; do
    case "$target/" in "$dir"/*) late=1 ;; esac
done < $disks
while [ "$late" ] && [ ! -e /run/hostvm/marks/services ]; do
    [ $((round += 1)) -le 200 ] || { echo "its data disk is not mounted yet" >&2; exit 75; }
    busybox usleep 50000
done
mkdir -p "$target" && cd "$target" || exit
[ "$(pwd -P)" = "$target" ] || { echo "a link leads from there to elsewhere in the guest" >&2; exit 1; }
[ "$1" = sshfs ] && exec "$@" "$target"
exec "$@" .
"""
# All that lies there, the cover below a share included (hostvm/shares/device.py).
_REMOVE = """
timeout 10 sync -f "$1" 2> /dev/null # what containers still have is left behind, and nobody serves it any more
while umount "$1" 2> /dev/null || umount -l "$1" 2> /dev/null; do :; done
! mountpoint -q "$1" || { echo "it stays" >&2; exit 1; }
"""
# The guest mounts its devices by itself while it boots; who looks in the midst of that would mount them once more.
_TABLE = """
seed=/run/hostvm/seed/shares marks=/run/hostvm/marks round=0
while [ -f $seed ] && [ ! -e $marks/share-devices ] && [ $((round += 1)) -le 100 ]; do busybox usleep 100000; done
cat /proc/mounts
[ ! -f $marks/shares ] || echo marked
! { grep -qw nfs /proc/filesystems || modprobe -nq nfsv3; } || echo nfs
[ ! -f $seed ] || [ -e $marks/share-devices ] || [ -e $marks/services ] || exit 75
"""
_MARK = ". /usr/lib/hostvm/lib.sh; [ -f /run/hostvm/marks/shares ] || mark shares"

# Unmounts what it is told, or tells who has a 9p folder among processes with mounts of their own, which containers are,
# or what the others have open. When anybody has, all is as it was: a device that a container still has cannot be
# mounted again, so each is kept aside meanwhile. They are looked for once more when nobody can take a folder any more.
# A container that begins later finds a cover that it cannot write to, not the guest's own memory or disk below.
_RELEASE = r"""
look() {
	# A rootless engine has mounts of its own, too; what is unmounted here goes from there.
	engine=$(cat /run/user/1000/rootlesskit/child_pid /run/user/1000/libpod/tmp/pause.pid 2> /dev/null)
	for info in $(grep -ls ' - 9p ' /proc/[0-9]*/mountinfo); do
		process=${info%/mountinfo}
		[ "$process/ns/mnt" -ef /proc/self/ns/mnt ] && continue
		for own in $engine; do [ "$process/ns/mnt" -ef "/proc/$own/ns/mnt" ] && continue 2; done
		grep -Hs . "$process/comm" "$process/cgroup" && held=1
	done
	[ -z "$held" ]
}
cover() {
	for outer do case "$1" in "$outer"/*) return 1 ;; esac; done
	! mountpoint -q "$1" && mount -t COVER "$1"
}
release() (
	[ $# -gt 0 ] || { look; exit; }
	target=$1 aside=/run/hostvm/released/$# covered=
	mkdir -p "$aside" && mount --bind "$target" "$aside" || exit
	if umount "$target" 2> /dev/null; then
		cover "$@" && covered=1
		shift
		release "$@" && umount "$aside" && exit
		[ -z "$covered" ] || umount -l "$target"
		mount --bind "$aside" "$target"
	else
		stat -c %N /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/fd/* 2> /dev/null
	fi
	umount "$aside"
	exit 1
)
look && release "$@"
true
""".replace("COVER", "{0} -o {2} {1}".format(*COVER.split()))

# What was learnt of a file or name serves the few calls of one look at it (stat, open, read), no more: one that was
# removed here could otherwise not be made in the guest, whose kernel would open it without O_CREAT. Folders are read
# one request after the other, so that the server can tell a folder that is read again (rewinddir) from its end.
_SSHFS = ",".join(  # noqa: FLY002 - one a line
    (
        "reconnect",
        "allow_other",
        "dir_cache=no",
        "attr_timeout=0.1",
        "entry_timeout=0.1",
        "negative_timeout=0",
        "max_read=65536",
        "max_write=65536",
        "sync_readdir",
        "workaround=renamexdev",
        "no_contain_symlinks",
        "fsname=hostvm",
    )
)

# A name is looked up at each use, and what is known of a file serves for a second at most, where no event tells sooner
# (hostvm/shares/events.py). Written at once, not in half a minute. `hard`: programs wait for an agent that is gone.
# Locks are the guest's own. Each folder is a file system of its own, whatever others have the same options.
_NFS = (
    "vers=3,proto=tcp,mountproto=tcp,nolock,noacl,hard,nosharecache,nosuid,nodev,"
    "actimeo=1,lookupcache=none,write=eager,rsize=1048576,wsize=1048576"
)

# Not as an argument, which others may read.
_NAMED = 'read -r name && echo "$name" > /proc/sys/kernel/hostname && exec "$@"'


def mounted(guest: Guest) -> Mounted:
    """What the guest has mounted. Waits for what it mounts by itself at its boot: for the data disk, then up to 10 s.

    :raises HostvmError: the guest does not answer.
    """
    table = _after_data(guest, ["/bin/sh", "-c", _TABLE]).stdout.decode("utf-8", "surrogateescape")
    rows = [line.split(" ") for line in table.splitlines()]
    words = {row[0] for row in rows if len(row) == 1}
    return Mounted({_plain(row[1]): row[2] for row in rows if len(row) > 1}, "marked" in words, "nfs" in words)


def _plain(field: str) -> str:
    """A path of /proc/mounts, where blanks and backslashes are octal numbers (fstab(5))."""
    parts = field.encode("utf-8", "surrogateescape").split(b"\\")
    whole = parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:])
    return whole.decode("utf-8", "surrogateescape")


def mount_device(guest: Guest, share: DeviceShare) -> None:
    """Mount a device share.

    :raises HostvmError: the guest's mount said no.
    """
    fstype = device_kind(share.kind).fstype
    _mount(guest, share.target, ["mount", "-c", "-t", fstype, "-o", mount_options(share), share.tag])


def mount_sftp(guest: Guest, mount: Mount, server: str, port: int, path: str) -> None:
    """Mount a folder that `ShareListener` offers.

    :param server: this computer's address, seen from the guest.
    :raises HostvmError: the guest's sshfs said no.
    """
    options = f"{_SSHFS},directport={port},{'ro' if mount.readonly else 'rw'}"
    _mount(guest, mount.target, ["sshfs", "-o", options, f"{server}:{path}"])


def mount_nfs(guest: Guest, mount: Mount, server: str, port: int, path: str, client: str) -> None:
    """Mount a folder that `ShareListener` offers, by the guest's kernel alone.

    :param server: this computer's address, seen from the guest.
    :param client: what the guest's kernel is to call itself with each call: the name of the machine on which mount(8)
        runs, which is no other program's to see or to choose.
    :raises HostvmError: the guest's kernel said no.
    """
    mode = "ro" if mount.readonly else "rw"
    options = f"{_NFS},port={port},mountport={port},addr={server},mountaddr={server},{mode}"
    words = ["mount", "-c", "-i", "-t", "nfs", "-o", options, f"{server}:{path}"]
    named = ["busybox", "unshare", "-u", "/bin/sh", "-c", _NAMED, "mount", *words]
    _mount(guest, mount.target, named, f"{client}\n".encode())


def works(guest: Guest, target: str) -> bool:
    """Whether a mount answers; an sshfs that was killed leaves one that does not."""
    return guest.run(["stat", "-t", target], timeout=SECONDS).status == 0


def unmount(guest: Guest, target: str) -> None:
    """Unmount whatever share is at `target`; in use, it goes when its last user does. Idempotent."""
    done = guest.run(["/bin/sh", "-c", _REMOVE, "unmount", target], timeout=SECONDS)
    if done.status != 0:
        raise MachineError(
            f"{target} cannot be unmounted in the guest",
            done.stderr.decode(errors="replace").strip(),
            "hostvm mount ls",
        )


def release(guest: Guest, targets: Sequence[str]) -> list[Holder]:
    """Unmount 9p folders that nobody uses; gives who uses which of them, none when all are unmounted.

    :param targets: those that lie inside of others behind them.
    :raises HostvmError: the guest does not answer.
    """
    done = guest.run(["/bin/sh", "-c", _RELEASE, "release", *reversed(targets)], timeout=SECONDS)
    return parse_holders(done.stdout.decode("utf-8", "surrogateescape"), targets)


def parse_holders(text: str, targets: Sequence[str]) -> list[Holder]:
    """Who has something, in what `_RELEASE` prints; each container once."""
    programs: dict[int, str] = {}
    found: dict[object, Holder] = {}
    for line in text.splitlines():
        if known := _FACT.match(line):
            pid, kind, value = int(known[1]), known[2], known[3]
            if kind == "comm":
                programs[pid] = value
                continue
            container = ident[0] if (ident := _CONTAINER.search(value)) else ""
            found.setdefault(container or pid, Holder(container, pid, programs.get(pid, "?")))
        elif opened := _OPEN.match(line):
            pid, path = int(opened[1]), opened[2]
            if any(path == target or path.startswith(f"{target}/") for target in targets):
                found.setdefault(pid, Holder("", pid, path))
    return list(found.values())


def mark_mounted(guest: Guest) -> None:
    """Tell the guest that all folders are there: its engine waits for that."""
    guest.run(["/bin/sh", "-c", _MARK], timeout=SECONDS)


def _after_data(guest: Guest, argv: list[str], stdin: bytes = b"") -> Completed:
    """Run it until it has the data disk, or that was waited for long enough."""
    deadline = time.monotonic() + _DATA_SECONDS
    while True:
        done = guest.run(argv, stdin=stdin, timeout=SECONDS)
        if done.status != _LATER or time.monotonic() > deadline:
            return done


def _mount(guest: Guest, target: str, argv: list[str], stdin: bytes = b"") -> None:
    done = _after_data(guest, ["/bin/sh", "-c", _MOUNT, "mount", target, *argv], stdin)
    if done.status != 0:
        raise MachineError(
            f"{target} cannot be mounted in the guest",
            (done.stderr + done.stdout).decode(errors="replace").strip() or f"status {done.status}",
            "hostvm logs --agent   # and what the guest says: hostvm shell -- dmesg",
        )
