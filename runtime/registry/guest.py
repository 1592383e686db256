"""The registry inside a running guest: started, stopped, cleaned, looked at."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError, MachineError
from hostvm.sizes import MIB
from runtime.registry.files import DATA, ENDED, FOLDER, LOG, SERVICE, data_folder, guest_files, pack
from runtime.registry.mirror import set_mirror

if TYPE_CHECKING:
    from hostvm.guest import Guest
    from runtime.registry.wanted import Wanted

_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
_CLEANING_SECONDS = 3600.0
_AGAIN = 0.05
_LOOK_SECONDS = 2.0
"""That the user of a failed command waits for its explanation at most."""

_SILENT_SECONDS = 5.0

# $1: folder of settings, $2: service, $3: folder of images, $4: port, $5: mark of its end. The supervisor's folder may
# still be filled: a look at it then would start services that are not whole.
_UP = """\
set -e
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ -x /usr/bin/docker-registry ] || exit 40
until [ -f /run/hostvm/marks/services ]; do busybox usleep 50000; done
new=$1.new
rm -rf "$new"
mkdir -p "$new" "$3"
tar -x -C "$new"
if [ -d "$2" ] && cmp -s "$new/files/digest" "$1/digest" && [ "$(s6-svstat -o up "$2")" = true ]; then
	rm -rf "$new"
	exit 0
fi
[ ! -d "$2" ] || s6-svc -wD -T 5000 -d "$2"
nc -w 1 127.0.0.1 "$4" < /dev/null > /dev/null 2>&1 && exit 41
rm -rf "$1" "$5"
mv "$new/files" "$1"
if [ -d "$2" ]; then
	s6-svc -u "$2"
else
	mv "$new/service" "$2"
	s6-svscanctl -a "${2%/*}"
fi
rm -rf "$new" /etc/docker/certs.d/*/hostvm-registry.crt
if [ -f "$1/ca.crt" ]; then
	umask 022 # an engine need not be root
	for name in localhost 127.0.0.1; do
		mkdir -p "/etc/docker/certs.d/$name:$4"
		cat "$1/ca.crt" > "/etc/docker/certs.d/$name:$4/hostvm-registry.crt"
	done
fi
"""
_NO_PROGRAM, _PORT_TAKEN = 40, 41

_DOWN = """\
[ ! -d "$1" ] || s6-svc -wD -T 10000 -d "$1"
rm -rf /etc/docker/certs.d/*/hostvm-registry.crt
"""

# The program fails where it does not find a folder: the first push makes one, its first layer the other.
_CLEAN = """\
size() { du -s --block-size=1 "$1" | cut -f1; }
before=$(size "$3")
for folder in repositories blobs; do
	[ -d "$3/docker/registry/v2/$folder" ] || { echo "$before $before 0"; exit 0; }
done
s6-svc -wD -T 10000 -d "$2" || exit 42
docker-registry garbage-collect "$1/config.yml" > /run/hostvm/registry.gc 2>&1
status=$?
s6-svc -u "$2"
[ $status -eq 0 ] || { tail -n 5 /run/hostvm/registry.gc >&2; exit $status; }
echo "$before $(size "$3") $(grep -c '^blob eligible for deletion' /run/hostvm/registry.gc)"
"""

_WIPE = """\
du -s --block-size=1 "$1" 2> /dev/null | cut -f1 | grep . || echo 0
rm -rf "$1"
"""

_LOOK = """\
[ "$(s6-svstat -o up "$1" 2> /dev/null)" = true ] && echo true || echo false
du -s --block-size=1 "$2" 2> /dev/null | cut -f1 | grep . || echo 0
{ df --block-size=1 --output=avail "$2" || df --block-size=1 --output=avail /var; } 2> /dev/null | tail -n 1
cd "$2/docker/registry/v2/repositories" 2> /dev/null || exit 0
find . -type d -name _manifests | sed 's,^./,,; s,/_manifests$,,'
"""

# Without the time that s6-log puts before each line, and without the stack of a panic.
_LAST_WORDS = """\
[ -f "$1" ] || exit 1
grep -E 'panic: |level=(fatal|error)' "$2" | tail -n 1 | cut -d ' ' -f 4-
"""


def up(guest: Guest, wanted: Wanted, machine: str, engine: str, *, wait: bool = True) -> None:
    """Start it with these settings; one that runs with them is left alone.

    :param engine: the machine's, which is told of a mirror.
    :param wait: return when it answers, which a mirror does not before it has reached its registry.
    :raises MachineError: the image has no registry, its port is taken in the guest, or it ends at once.
    """
    words = ["sh", "-c", _UP, "up", FOLDER, SERVICE, data_folder(wanted), str(wanted.port), ENDED]
    done = guest.run(words, stdin=pack(guest_files(wanted)), timeout=_SECONDS)
    if done.status == _NO_PROGRAM:
        raise MachineError(
            f"the guest image of machine {machine} has no registry", "it is an older one", f"hostvm upgrade {machine}"
        )
    if done.status == _PORT_TAKEN:
        raise MachineError(
            f"port {wanted.port} is taken in machine {machine}",
            "a container or a program of the guest listens there",
            f"hostvm registry start {machine} --port {wanted.port + 1}   # who has it: hostvm docker ps",
        )
    if done.status != 0:
        raise _failed(machine, done.stderr.decode(errors="replace"))
    if wait:
        _wait_answer(guest, wanted, machine)
    set_mirror(guest, wanted.url if wanted.mirror else "", engine)


def down(guest: Guest, engine: str) -> None:
    """Stop it; images stay. Idempotent."""
    guest.run(["sh", "-c", _DOWN, "down", SERVICE], timeout=_SECONDS)
    set_mirror(guest, "", engine)


def clean(guest: Guest, wanted: Wanted, machine: str) -> dict[str, int]:
    """Delete what no image of it needs any more. It is stopped meanwhile, so that no push loses layers.

    :returns: bytes before and after, and how many blobs went.
    :raises MachineError: it failed; the registry runs again.
    """
    words = ["sh", "-c", _CLEAN, "clean", FOLDER, SERVICE, data_folder(wanted)]
    done = guest.run(words, timeout=_CLEANING_SECONDS)
    _wait_answer(guest, wanted, machine)
    if done.status != 0:
        raise _failed(machine, done.stderr.decode(errors="replace"))
    before, after, blobs = map(int, done.stdout.split())
    return {"before": before, "after": after, "blobs": blobs}


def wipe(guest: Guest) -> int:
    """Delete all images, a mirror's too; gives the bytes they took. The registry must be down."""
    done = guest.run(["sh", "-c", _WIPE, "wipe", DATA], timeout=_CLEANING_SECONDS)
    return int(done.stdout)


def look(guest: Guest, wanted: Wanted) -> dict[str, Any]:
    """Whether it runs, its repositories, bytes they take, and bytes that are free on the data disk."""
    done = guest.run(["sh", "-c", _LOOK, "look", SERVICE, data_folder(wanted)], timeout=_SECONDS)
    runs, size, free, *names = done.stdout.decode(errors="replace").split()
    return {"running": runs == "true", "bytes": int(size), "free": int(free), "repositories": sorted(names)}


def is_full(guest: Guest, wanted: Wanted) -> bool:
    """Whether pushes fail for want of room. Its folder may lie on a disk of its own.

    :raises HostvmError: the guest cannot be asked.
    """
    done = guest.run(["df", "-B1", "--output=avail", data_folder(wanted)], timeout=_LOOK_SECONDS)
    free = done.stdout.split()[-1:]
    return done.status == 0 and bool(free) and free[0].isdigit() and int(free[0]) < MIB


def _wait_answer(guest: Guest, wanted: Wanted, machine: str) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not _answers(guest, wanted.port):
        ended = guest.run(["sh", "-c", _LAST_WORDS, "last", ENDED, LOG])
        if ended.status == 0 or time.monotonic() > deadline:
            raise _failed(machine, ended.stdout.decode(errors="replace"))
        time.sleep(_AGAIN)


def _answers(guest: Guest, port: int) -> bool:
    """With TLS its answer is a complaint, which is one."""
    try:
        stream = guest.open_tcp("127.0.0.1", port)
    except (OSError, HostvmError):
        return False
    silent = threading.Timer(_SILENT_SECONDS, stream.close)
    silent.start()
    try:
        stream.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
        return stream.recv(5) == b"HTTP/"
    except OSError:
        return False
    finally:
        silent.cancel()
        stream.close()


def _failed(machine: str, why: str) -> MachineError:
    return MachineError(
        f"the registry of machine {machine} does not work",
        why.strip() or None,
        f"its log: hostvm -m {machine} shell -- cat {LOG}",
    )
