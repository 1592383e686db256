"""One thing that was looked at, and how the look is taken so that a broken thing cannot break the doctor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from hostvm.platform.words import show_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    :param area: "computer", "hypervisor", "images", or a machine's name.
    :param level: ok, warn (works, but) or fail (something will not work).
    :param found: what is there, in one line or a few.
    :param fix: a command to type; always there unless all is well.
    """

    area: str
    name: str
    level: str
    found: str
    fix: str = ""

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def looked_at(area: str, name: str, look: Callable[[], Iterator[Finding]], *, level: str = FAIL) -> Iterator[Finding]:
    """The findings of `look`; what it raises becomes one of `level`."""
    try:
        yield from look()
    except HostvmError as error:
        found = error.brief + (f": {error.details}" if error.details else "")
        yield Finding(area, name, level, found, error.resolution or "run it again with -v")
    except OSError as error:
        yield Finding(area, name, level, str(error), f"look at it yourself: {show_folder(option='-la')}")
