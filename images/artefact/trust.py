"""Whose images are taken: the keys a user has, the keys a user trusts, and the one decision made with them.

FOLDER/NAME.pub           a trusted key, in minisign's format
FOLDER/NAME.key           the secret half of the user's own, mode 0600
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.artefact.minisign import (
    PublicKey,
    SecretKey,
    Signature,
    new_key,
    parse_public,
    parse_secret,
    parse_signature,
    show_id,
)
from images.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key of the ring.

    :param own: its secret half is here too.
    """

    name: str
    public: PublicKey
    own: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of an image's origin.

    :param signer: the trusted key's name and id; None: nobody signed it, and that was allowed.
    :param comment: what the signer wrote and signed.
    """

    signer: str | None
    comment: str = ""

    def __str__(self) -> str:
        return f"signed by {self.signer}" if self.signer else "not signed by anybody"


class KeyRing:
    """The keys in a folder. Every method reads the disk; a damaged key file is an error, never skipped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trusted(self) -> list[TrustedKey]:
        """All keys, by name.

        :raises SignatureError: a file is no key.
        """
        return [
            TrustedKey(path.stem, _read_trusted(path), path.with_suffix(".key").exists())
            for path in sorted(self.folder.glob("*.pub"))
        ]

    def owns(self, name: str) -> bool:
        """Whether the secret half of that key is here, be the other one damaged or gone."""
        return any(path.suffix == ".key" for path in self._files(name))

    def new(self, name: str) -> TrustedKey:
        """Make a key pair; it is trusted here at once.

        :raises SignatureError: the name is taken or cannot be one.
        """
        self._require_free(name)
        key = new_key()
        secret = self._write(name, ".key", key.file, 0o600)
        try:
            self._write(name, ".pub", key.public.file, 0o644)
        except BaseException:
            secret.unlink()
            raise
        return TrustedKey(name, key.public, own=True)

    def trust(self, name: str, public: PublicKey) -> TrustedKey:
        """Add somebody's public key.

        :raises SignatureError: the name is taken or cannot be one, or another key has that id.
        """
        for known in self.trusted():
            if known.public == public:
                return known
            if known.public.key_id == public.key_id:
                raise SignatureError(
                    f"key {name} has the id of {known.name}, and is another key",
                    f"Both are {public.ident}. One of them may be meant to deceive.",
                    f"Ask both owners; to replace the old one: `hostvm image key rm {known.name}`",
                )
        self._require_free(name)
        self._write(name, ".pub", public.file, 0o644)
        return TrustedKey(name, public, own=False)

    def remove(self, name: str) -> None:
        """Trust a key no more, damaged or half as it may be; the secret half goes as well.

        :raises SignatureError: there is none of that name.
        """
        files = self._files(name)
        if not files:
            raise _unknown(name)
        for path in files:
            path.unlink(missing_ok=True)

    def _files(self, name: str) -> list[Path]:
        return [path for kind in ("pub", "key") for path in self.folder.glob(f"*.{kind}") if path.stem == name]

    def secret(self, name: str) -> SecretKey:
        """The user's own key to sign with.

        :raises SignatureError: there is none, or it is damaged.
        """
        path = self.folder / f"{name}.key"
        if not _NAME.fullmatch(name) or not path.is_file():
            raise SignatureError(
                f"there is no secret key called {name}",
                "One's own are: " + (", ".join(key.name for key in self.trusted() if key.own) or "none yet"),
                f"Make it: `hostvm image key new {name}`",
            )
        return parse_secret(_read(path), str(path))

    def judge(self, manifest: bytes, signatures: Sequence[str], *, allow_unsigned: bool = False) -> Verdict:
        """Decide whether a manifest may be believed.

        One good signature by a trusted key is enough. One that claims a trusted key and is not good is never
        ignored: somebody changed something.

        :raises SignatureError: unsigned and not allowed, signed by unknown keys only, or a signature is false.
        """
        by_id: Mapping[bytes, TrustedKey] = {key.public.key_id: key for key in self.trusted()}
        good: list[tuple[TrustedKey, Signature]] = []
        parsed = [parse_signature(text) for text in signatures]
        for signature in parsed:
            key = by_id.get(signature.key_id)
            if key is None:
                continue
            if not signature.is_by(key.public, manifest):
                raise SignatureError(
                    f"the signature of {key.name} on the image is false",
                    f"It names key {key.public.ident}, which did not sign this manifest: one of the two was changed.",
                    "Do not use it. Get it again from whoever made it",
                )
            good.append((key, signature))
        if good:
            key, signature = good[0]
            return Verdict(f"{key.name} ({key.public.ident})", signature.comment)
        if parsed:
            unknown = ", ".join(show_id(signature.key_id) for signature in parsed)
            raise SignatureError(
                f"the image is signed by a key that is not trusted here: {unknown}",
                "Trusted are: " + (", ".join(f"{k.name} ({k.public.ident})" for k in by_id.values()) or "none yet"),
                "Get the signer's public key on a way you trust, then: `hostvm image key trust FILE`",
            )
        if not allow_unsigned:
            raise SignatureError(
                "the image is not signed",
                "Nobody vouches for it: its parts agree with its manifest, but anybody could have made both.",
                "Ask for one that is signed, or take it as it is: add `--allow-unsigned`",
            )
        return Verdict(None)

    def _require_free(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise SignatureError(
                f"{name!r} cannot be a key's name",
                "A name has up to 64 letters, digits and . _ @ -, and begins with a letter or digit.",
                "Choose another, e.g. `hostvm image key new team`",
            )
        if (self.folder / f"{name}.pub").exists() or (self.folder / f"{name}.key").exists():
            raise SignatureError(
                f"there is a key called {name} already",
                None,
                f"Choose another name, or remove it first: `hostvm image key rm {name}`",
            )

    def _write(self, name: str, suffix: str, text: str, mode: int) -> Path:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{name}{suffix}"
        # O_EXCL: never over a key that is there; the mode holds from the first byte.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
        except BaseException:  # a full disk; half a key would be told as damaged by every command that asks for one
            path.unlink()
            raise
        return path


def _read_trusted(path: Path) -> PublicKey:
    try:
        return parse_public(_read(path), str(path))
    except SignatureError as fault:
        way = f"Remove it: `hostvm image key rm {path.stem}`, then get it from its owner again, and trust that"
        raise SignatureError(fault.brief, fault.details, way) from fault


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read(1 << 16).replace("\r\n", "\n")
    except UnicodeDecodeError:
        return ""  # the parser says that it is no key
    except OSError as error:
        raise SignatureError(f"cannot read the key {path}", str(error), "See `hostvm image key ls`") from error


def read_public(path: Path) -> PublicKey:
    """A public key from any file.

    :raises SignatureError: unreadable, or no key.
    """
    return parse_public(_read(path), str(path))


def _unknown(name: str) -> SignatureError:
    return SignatureError(f"there is no key called {name}", None, "See which there are: `hostvm image key ls`")
