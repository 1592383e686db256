"""Templates: partial settings files to make machines from, bundled or a person's own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from hostvm.errors import SpecError
from hostvm.files import user_path
from hostvm.spec import text_settings

_ENDING = ".yaml"


@dataclass(frozen=True, slots=True)
class Template:
    """One that comes with hostvm.

    :param about: what it is for: the comment in its first line.
    """

    name: str
    about: str
    text: str


def bundled() -> list[Template]:
    """All that come with hostvm, by name."""
    found = []
    for file in files("hostvm").joinpath("templates").iterdir():
        if file.name.endswith(_ENDING):
            text = file.read_text(encoding="utf-8")
            found.append(Template(file.name.removesuffix(_ENDING), text.partition("\n")[0].lstrip("# "), text))
    return sorted(found, key=lambda template: template.name)


def template_settings(word: str) -> dict[str, Any]:
    """The settings of a bundled template, or of a file: anything with a slash, a dot or a folder's sign in it.

    :raises SpecError: there is none of that name, or it holds wrong settings.
    """
    known = {template.name: template for template in bundled()}
    if word in known:
        return text_settings(known[word].text, f"template {word}")
    path = user_path(word)
    if path.name == word and not path.suffix and not path.exists():
        raise SpecError(
            f"there is no template called {word}",
            f"there are: {', '.join(known)}; a file of one's own is named by its path",
            "see what they are for: hostvm template ls",
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SpecError(f"the template {path} cannot be read", str(fault), "hostvm template ls") from fault
    return text_settings(text, str(path))
