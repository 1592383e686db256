"""Errors of making and storing images; the shape is `images.failure.HostvmError`."""

from __future__ import annotations

from images.failure import ForwardError, HostvmError, ImageError, UsageError

__all__ = [
    "DiskFullError",
    "ForwardError",
    "HashError",
    "HostvmError",
    "ImageError",
    "MirrorError",
    "MissingFileError",
    "OtherFileError",
    "OutOfDateError",
    "RecipeError",
    "RegistryError",
    "SignatureError",
    "StaleIndexError",
    "UsageError",
]


class MirrorError(ImageError):
    """The archive does not answer, or lacks what it should have."""


class RegistryError(ImageError):
    """A registry does not answer, refuses, or lacks what it should have."""


class SignatureError(ImageError):
    """Signed data is not signed by a pinned or trusted key, or is out of date."""


class OutOfDateError(SignatureError):
    """A mirror's signed index is valid no longer."""


class HashError(ImageError):
    """Bytes differ from what the signed index promises."""


class StaleIndexError(ImageError):
    """A mirror lacks what its signed index promises, or has something else there; perhaps it is being updated."""


class MissingFileError(StaleIndexError, MirrorError):
    """A mirror lacks what its signed index promises."""


class OtherFileError(StaleIndexError, HashError):
    """A mirror has something else than its signed index promises."""


class DiskFullError(ImageError):
    """No space left where the work is done."""


class RecipeError(ImageError):
    """A recipe does not say what can be built; the details list every fault."""
