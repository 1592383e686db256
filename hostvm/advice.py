"""Commands in what an error advises, for the machine that it is of.

What is deep down (ssh, a hypervisor's monitor) does not know whose it is, and says `hostvm restart`: pasted, that is
done to the default machine.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hostvm.errors import HostvmError
from hostvm.paths import DEFAULT_MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMAND = re.compile(
    r"\bhostvm ((?:logs|mount|restart|resume|shell|start|status|stop|suspend)\b(?:(?!\bhostvm )[^\n#;&|])*)"
)


def for_machine(text: str | None, name: str) -> str | None:
    """The text, its commands that name no machine naming this one; for the default one they are right as they are."""
    if not text or name == DEFAULT_MACHINE:
        return text
    return _COMMAND.sub(lambda found: f"hostvm {'' if _names_one(found[1]) else f'-m {name} '}{found[1]}", text)


@contextmanager
def machine_named(name: str) -> Iterator[None]:
    """Have what errors of the block advise name the machine, see `for_machine`."""
    try:
        yield
    except HostvmError as error:
        error.resolution = for_machine(error.resolution, name)
        error.args = (error.brief, error.details, error.resolution)
        raise


def _names_one(words: str) -> bool:
    """Whether any word behind the verb, before those of a program in the guest, is no option and may be a name."""
    verb, *own = f"{words} ".partition(" -- ")[0].split()
    if verb == "mount":  # whose words are folders
        return "-m" in own or "--help" in own
    return any(not word.startswith("-") for word in own)
