"""Docker's own options, before the command, for the client in the guest: `-H` and `--config`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cli.docker_words import GLOBAL_WITH_VALUE
from hostvm.errors import ForwardError
from hostvm.platform.words import quoted

if TYPE_CHECKING:
    from collections.abc import Callable


def for_guest(words: list[str], sock: str, in_guest: Callable[[list[str]], bool], option: str) -> list[str]:
    """The same words as the guest's client has to have them.

    :param sock: the machine's docker.sock here. `-H` of that is the engine which the guest's client asks anyhow.
    :param in_guest: whether the guest has absolute paths under the same names.
    :param option: of hostvm's commands in an error's last line, to choose the machine.
    :raises ForwardError: the folder of `--config` is not shared, so that the client would go on without it in silence.
    """
    found: list[str] = []
    at = 0
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        own = words[at : at + 2] if word in GLOBAL_WITH_VALUE else words[at : at + 1]
        at += len(own)
        name, equals, value = word.partition("=")
        if not equals:
            value = "".join(own[1:])
        if word.startswith("-H") and word != "-H":
            name, value = "-H", word[2:].removeprefix("=")
        if name in ("-H", "--host") and value == f"unix://{sock}":
            continue
        if name == "--config" and value:
            own = ["--config", _shared(value, in_guest, option)]
        found += own
    return found + words[at:]


def _shared(path: str, in_guest: Callable[[list[str]], bool], option: str) -> str:
    whole = os.path.abspath(path)  # noqa: PTH100 - links stay as they are
    if in_guest([whole]):
        if sys.platform == "win32":
            from hostvm.platform.windows_paths import guest_folder

            return guest_folder(whole) or whole
        return whole
    raise ForwardError(
        f"{whole} of --config is not shared with the machine at the same path",
        "the client inside the guest reads its settings and logins there",
        f"hostvm mount add {quoted(whole)}{option}\nor leave --config out: hostvm docker login keeps a login for all",
    )
