"""The two key pairs of a machine: the client's, and the guest's host key that is planted and pinned."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.errors import SshError
from hostvm.paths import CLIENT_KEY, HOST_KEY
from hostvm.platform.words import delete_file

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a machine's private keys lie, and the public halves as `ssh-ed25519 BASE64` without a comment."""

    client_key: Path
    client_public: str
    host_key: Path
    host_public: str


def make_keys(folder: Path) -> Keys:
    """Make the pairs that are missing in `folder` (made 0700) and return all of them. Idempotent.

    Private keys are OpenSSH format, 0600: sshd refuses host keys that anyone else may read.

    :raises SshError: a key that is there cannot be read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    client, host = folder / CLIENT_KEY, folder / HOST_KEY
    return Keys(client, _ensure_pair(client), host, _ensure_pair(host))


def load_keys(folder: Path) -> Keys:
    """The pairs that `make_keys` made.

    :raises SshError: one is missing or cannot be read.
    """
    client, host = folder / CLIENT_KEY, folder / HOST_KEY
    return Keys(client, _public_of(client), host, _public_of(host))


def authorized_keys_line(client_public: str) -> str:
    """The guest's authorized_keys, one line with its newline."""
    return f"{client_public} hostvm\n"


def fingerprint(public: str) -> str:
    """`SHA256:…` as OpenSSH prints it."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode()


def _ensure_pair(path: Path) -> str:
    if not path.exists():
        _make_pair(path)
    return _public_of(path)


def _make_pair(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    # Written aside and renamed, so that a key that exists is always whole.
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _public_of(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        private = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise SshError(
            f"the ssh key {path} cannot be read",
            str(error),
            f"{delete_file(str(path))}   # a new pair is made and planted at the next start",
        ) from error
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line.decode()
