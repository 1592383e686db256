"""The root of every error a user can meet.

It lives in the lowest layer so that all four packages raise the same shape: what failed (`brief`), why
(`details`) and a command to type next (`resolution`). One printer in `cli` renders it; nothing else catches it
only to print. The kinds that only the making of images knows are in `images.errors`: a class takes its time, and every
forwarded command begins here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from typing import ClassVar


class HostvmError(Exception):
    """A failure told in three parts. Equal when all three are; a plain class, since dataclasses take 20 ms to import.

    :param brief: one line, what failed.
    :param details: why; may have several lines (a command's output, a console's tail).
    :param resolution: what to do next, with a command that can be pasted.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, brief: str, details: str | None = None, resolution: str | None = None) -> None:
        super().__init__(brief, details, resolution)  # all of them, or the error does not unpickle
        self.brief = brief
        self.details = details
        self.resolution = resolution

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostvmError) and type(self) is type(other) and self.args == other.args

    # Defining equality takes the hash away; exceptions must keep one (contextlib and traceback need it).
    __hash__ = Exception.__hash__

    def __str__(self) -> str:
        return "\n".join(part for part in (self.brief, self.details, self.resolution) if part)


class UsageError(HostvmError):
    """The words of a command are wrong."""

    exit_status = 2


class ForwardError(HostvmError):
    """A forwarded command could not be run at all."""

    exit_status = 125


class ImageError(HostvmError):
    """A guest or container image cannot be made, found or trusted."""
