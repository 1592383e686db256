"""Ed25519 signatures in minisign's format, so that people can check them, and make keys, without hostvm.

Keys and signatures are small text files (https://jedisct1.github.io/minisign/#signature-format):

    public      comment line · base64(`Ed` · key id, 8 bytes · public key, 32)
    secret      comment line · base64(`Ed` · kdf 2 · `B2` · salt 32 · ops 8 · mem 8 · key id 8 · seed 32 · public 32 ·
                BLAKE2b-256 of `Ed`, key id, seed and public)
    signature   comment line · base64(`ED` · key id 8 · signature 64 of the content's BLAKE2b-512) ·
                `trusted comment: ` line · base64(signature 64 of the first one and the trusted comment)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PURE, HASHED, CHECKSUM, NO_KDF = b"Ed", b"ED", b"B2", b"\0\0"
PUBLIC_SIZE, SECRET_SIZE, SIGNATURE_SIZE, SEAL_SIZE = 42, 158, 74, 64
COMMENT, TRUSTED = "untrusted comment: ", "trusted comment: "
MOST = 4096
"""Characters of a key's or a signature's text; real ones have some 300."""
MOST_BYTES = 4 * MOST
"""Of the same in UTF-8."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whose signatures can be checked.

    :param key_id: 8 bytes, a name for looking it up; it proves nothing.
    """

    key_id: bytes
    raw: bytes

    @property
    def ident(self) -> str:
        """The id as minisign prints it."""
        return show_id(self.key_id)

    @property
    def text(self) -> str:
        """The line that people exchange."""
        return _encode(PURE + self.key_id + self.raw)

    @property
    def file(self) -> str:
        """What a key file holds."""
        return f"{COMMENT}minisign public key {self.ident}\n{self.text}\n"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """Signs. Its representation never shows the secret."""

    public: PublicKey
    _key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SecretKey({self.public.ident})"

    @property
    def file(self) -> str:
        """What a key file holds: the secret, under no password."""
        pair = self._key.private_bytes_raw() + self.public.raw
        check = hashlib.blake2b(PURE + self.public.key_id + pair, digest_size=32).digest()
        body = PURE + NO_KDF + CHECKSUM + bytes(32 + 8 + 8) + self.public.key_id + pair + check
        return f"{COMMENT}minisign secret key {self.public.ident}\n{_encode(body)}\n"

    def sign(self, content: bytes, comment: str) -> str:
        """A signature file over `content`; `comment` (one line) is signed as well."""
        signature = self._key.sign(hashlib.blake2b(content).digest())
        seal = self._key.sign(signature + comment.encode())
        head = f"{COMMENT}signature of a hostvm guest image by key {self.public.ident}\n"
        body = _encode(HASHED + self.public.key_id + signature)
        return f"{head}{body}\n{TRUSTED}{comment}\n{_encode(seal)}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """A parsed signature file, not checked yet."""

    algorithm: bytes
    key_id: bytes
    signature: bytes
    comment: str
    seal: bytes

    def is_by(self, key: PublicKey, content: bytes) -> bool:
        """Whether `key` made it over `content`, and over its trusted comment."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        signed = hashlib.blake2b(content).digest() if self.algorithm == HASHED else content
        public = Ed25519PublicKey.from_public_bytes(key.raw)
        try:
            public.verify(self.signature, signed)
            public.verify(self.seal, self.signature + self.comment.encode())
        except InvalidSignature:
            return False
        return True


def show_id(key_id: bytes) -> str:
    """A key id as minisign prints it: a little-endian number in hex."""
    return f"{int.from_bytes(key_id, 'little'):016X}"


def new_key() -> SecretKey:
    """A fresh key pair with an id drawn by lot, as minisign draws it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return SecretKey(PublicKey(os.urandom(8), key.public_key().public_bytes_raw()), key)


def parse_public(text: str, where: str) -> PublicKey:
    """Read a public key file, or the key's line alone.

    :raises SignatureError: it is none.
    """
    body = _decode(_lines(text)[-1:], PUBLIC_SIZE)
    if body is None or body[:2] != PURE:
        raise SignatureError(
            f"{where} is not a minisign public key",
            "Such a file has a comment line and a line of 56 characters that begins with RW.",
            "Ask its owner for the .pub file; `hostvm image key ls` prints one's own",
        )
    return PublicKey(body[2:10], body[10:])


def parse_secret(text: str, where: str) -> SecretKey:
    """Read a secret key file.

    :raises SignatureError: it is none, it is damaged, or it is locked by a password.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    body = _decode(_lines(text)[-1:], SECRET_SIZE)
    fresh = "Make one: `hostvm image key new NAME`"
    if body is None or body[:2] != PURE or body[4:6] != CHECKSUM:
        raise SignatureError(f"{where} is not a minisign secret key", None, fresh)
    if body[2:4] != NO_KDF:
        raise SignatureError(
            f"the secret key {where} is locked by a password",
            "hostvm reads keys without one; the file's permissions protect them.",
            f"Unlock a copy: `minisign -C -W -s {where}`. Or make another: `hostvm image key new NAME`",
        )
    key_id, seed, public, check = body[54:62], body[62:94], body[94:126], body[126:]
    key = Ed25519PrivateKey.from_private_bytes(seed)
    # minisign leaves the checksum of a key without a password empty.
    good = check in (bytes(32), hashlib.blake2b(PURE + key_id + seed + public, digest_size=32).digest())
    if not good or key.public_key().public_bytes_raw() != public:
        raise SignatureError(f"the secret key {where} is damaged", "Its checksum is wrong.", fresh)
    return SecretKey(PublicKey(key_id, public), key)


def parse_signature(text: str) -> Signature:
    """Read a signature file.

    :raises SignatureError: it is none.
    """
    lines = _lines(text)
    if len(lines) == 4 and lines[2].startswith(TRUSTED):  # noqa: PLR2004 - see the module's text
        body, seal = _decode(lines[1:2], SIGNATURE_SIZE), _decode(lines[3:4], SEAL_SIZE)
        if body is not None and seal is not None and body[:2] in (PURE, HASHED):
            return Signature(body[:2], body[2:10], body[10:], lines[2].removeprefix(TRUSTED), seal)
    raise SignatureError(
        "the image's signature cannot be read",
        "It is not in minisign's format.",
        "Get the image again from whoever made it, or ask for one that is signed anew",
    )


def _lines(text: str) -> list[str]:
    return text[:MOST].rstrip("\r\n").split("\n") if len(text) <= MOST else []


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(lines: list[str], size: int) -> bytes | None:
    try:
        data = base64.b64decode(lines[0].strip(), validate=True)
    except (IndexError, binascii.Error, ValueError):
        return None
    return data if len(data) == size else None
