"""Who may sign an archive: the pinned certificates, and the one check made with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from images.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysequoia import Cert

KEYS = Path(__file__).resolve().parent.parent / "keys"


def load_pinned_keys(folder: Path = KEYS) -> tuple[Cert, ...]:
    """The certificates shipped in `folder` (*.asc), sorted by file name."""
    from pysequoia import Cert

    return tuple(cert for path in sorted(folder.glob("*.asc")) for cert in Cert.split_bytes(path.read_bytes()))


def verify_signed(data: bytes, keys: Sequence[Cert], what: str) -> bytes:
    """Return the signed content of `data` (clear-signed), without anything around it.

    Each certificate is tried alone: pysequoia accepts a message when any signature on it is good, so handing it
    exactly one certificate at a time is what makes "good" mean "made by this pinned key".

    :raises SignatureError: no pinned key made a good signature.
    """
    from pysequoia import verify

    for cert in keys:
        try:
            result = verify(bytes=data, store=lambda _ids, cert=cert: [cert])
        except RuntimeError:
            continue  # pysequoia says "no valid signature" and "not OpenPGP" the same way
        if any(sig.certificate == cert.fingerprint for sig in result.valid_sigs) and result.bytes is not None:
            return bytes(result.bytes)
    pinned = "\n".join(f"  {cert.fingerprint}  {next(iter(cert.user_ids), '')}" for cert in keys)
    raise SignatureError(
        f"the signature of {what} is not good",
        f"None of the pinned keys signed it:\n{pinned}",
        "The mirror or the way to it changes files: try another, e.g. "
        "`hostvm image build --mirror https://deb.debian.org/debian`",
    )
