"""The registry's files in the guest, as bytes: nothing is read or written here."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.registry.wanted import Wanted

DATA = "/var/lib/hostvm/registry"
"""On the data disk. A mirror keeps apart what it fetched, since it deletes that by itself after a week."""

LOG = "/var/log/registry/current"
FOLDER = "/run/hostvm/registry"
SERVICE = "/run/service/registry"
ENDED = "/run/hostvm/registry.ended"
"""There after it ended by itself."""

OWN_CA = "hostvm-registry.crt"
"""In the folders of certs.d, where its authority lies beside others' that machine.yaml names."""

_RUN = f"""\
#!/usr/bin/busybox sh
. /usr/lib/hostvm/lib.sh
exec 2>&1
engine_env
echo 0 > /sys/fs/cgroup/system/cgroup.procs
exec /usr/bin/docker-registry serve {FOLDER}/config.yml
"""
# A mirror that does not reach its registry ends with a panic: no hurry to see it again. Status 256 is a signal's.
_FINISH = f"""\
#!/usr/bin/busybox sh
[ "$1" = 256 ] && exit 0
usleep 100000   # its last words reach the log before anybody looks for them
echo "$1" > {ENDED}
sleep 2
"""
_LOG_RUN = """\
#!/usr/bin/busybox sh
mkdir -p /var/log/registry
exec /usr/bin/s6-log -- n3 s1048576 T /var/log/registry
"""


def data_folder(wanted: Wanted) -> str:
    """Where its images lie in the guest."""
    return f"{DATA}/{'mirror' if wanted.mirror else 'data'}"


def config(wanted: Wanted) -> dict[str, Any]:
    """docker-registry's configuration."""
    http: dict[str, Any] = {"addr": f"127.0.0.1:{wanted.port}", "secret": wanted.secret}
    found: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": data_folder(wanted)}, "delete": {"enabled": True}},
        "http": http,
    }
    if wanted.certificate:
        http["tls"] = {"certificate": f"{FOLDER}/tls.crt", "key": f"{FOLDER}/tls.key"}
    if wanted.user:
        found["auth"] = {"htpasswd": {"realm": "hostvm", "path": f"{FOLDER}/htpasswd"}}
    if wanted.mirror:
        found["proxy"] = {"remoteurl": wanted.mirror}
    return found


def guest_files(wanted: Wanted) -> dict[str, bytes]:
    """Everything by its path below the folder that `up` unpacks, with a digest of it all."""
    texts = {"files/config.yml": json.dumps(config(wanted), indent=1)}  # JSON is YAML
    if wanted.certificate:
        texts |= {"files/tls.crt": wanted.certificate, "files/tls.key": wanted.key, "files/ca.crt": wanted.ca}
    if wanted.user:
        texts["files/htpasswd"] = f"{wanted.user}:{wanted.hashed}\n"
    texts |= {"service/run": _RUN, "service/finish": _FINISH, "service/log/run": _LOG_RUN}
    digest = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()
    return {name: text.encode() for name, text in (texts | {"files/digest": digest}).items()}


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar of them; a service's files can be run, and nobody but root may read any."""
    import tarfile  # an agent seldom packs one

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o700 if name.startswith("service/") else 0o600
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def mirrored(settings: Mapping[str, Any], url: str) -> dict[str, Any]:
    """dockerd's settings with this mirror before all others."""
    others = [one for one in settings.get("registry-mirrors", []) if one != url]
    return {**settings, "registry-mirrors": [url, *others]}


def unmirrored(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """dockerd's settings as before a mirror. A key that is missing changes nothing at a reload, so it stays."""
    key = "registry-mirrors"
    return {**before, key: before.get(key, [])} if key in now else dict(now)
