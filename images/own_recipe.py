"""Recipes of the user's own: a file that adds to a shipped recipe, or stands alone, and packages named on the spot.

Beside the keys of `images.recipe` such a file may have:

    overlay    a folder beside the file whose content is copied over the tree, after the recipe's `files`; modes alike

`base` is most often an engine's recipe: docker, podman or containerd.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import yaml

from images.document import DocumentError, read_document
from images.errors import RecipeError
from images.faults import spell
from images.recipe import Recipe, load_recipe, merge, recipe_data, recipe_names
from images.store import WORD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from images.downloads import Download

OVERLAY_FILES = 10_000


def load_own_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    :raises RecipeError: unreadable, or with every fault at once; or it takes the name of a shipped one.
    """
    own = _read(path)
    if not isinstance(own, dict):
        raise RecipeError(f"{path} is not a recipe", "It must have KEY: VALUE lines.", "See docs/images.md")
    base, overlay = own.pop("base", None), own.pop("overlay", None)
    if "name" not in own or own["name"] in recipe_names():
        raise RecipeError(
            f"{path} needs a name of its own",
            f"Taken by hostvm are: {', '.join(recipe_names())}.",
            f"Add to {path}: `name: mine`",
        )
    if base is not None:
        own = merge(recipe_data(str(base)), own)
    recipe = load_recipe(yaml.safe_dump(own, sort_keys=False), str(path))
    return dataclasses.replace(
        recipe,
        overlay=_overlay(path, overlay) if overlay is not None else "",
        downloads=tuple(_beside(path, one) for one in recipe.downloads),
    )


def _read(path: Path) -> Any:
    """The file's values.

    :raises RecipeError: it is no YAML, or what is in it could be read in two ways: each fault with its line.
    """
    try:
        document = read_document(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, DocumentError) as error:
        raise RecipeError(f"{path} cannot be read as a recipe", str(error), f"Correct {path}") from error
    if document.faults:
        placed = sorted((document.line(fault.path) or 0, spell(fault.path), fault.why) for fault in document.faults)
        told = "\n".join(f"line {line}: {f'{where}: ' if where else ''}{why}" for line, where, why in placed)
        raise RecipeError(f"{path} cannot be read as a recipe", told, f"Correct {path}")
    return document.values


def with_packages(recipe: Recipe, packages: Sequence[str], name: str | None) -> Recipe:
    """The recipe with more packages, under another name: an image of it must not pass for the plain one.

    :raises RecipeError: the name is a shipped recipe's, or no image can have it.
    """
    if not packages and name is None:
        return recipe
    chosen = f"{recipe.name}-custom" if name is None else name
    if not WORD.fullmatch(chosen):
        raise RecipeError(
            f"{chosen!r} cannot be an image's name",
            "It begins with a letter or a digit, has these and any of +.:~_- , and at most 128 of them.",
            "Choose another name: `--name mine`",
        )
    if chosen in recipe_names():
        raise RecipeError(f"{chosen} is a recipe of hostvm", None, "Choose another name: `--name mine`")
    new = [package for package in packages if package not in recipe.packages]
    excluded = {key: why for key, why in recipe.exclude_packages.items() if key not in packages}
    return dataclasses.replace(recipe, name=chosen, packages=(*recipe.packages, *new), exclude_packages=excluded)


def _beside(path: Path, one: Download) -> Download:
    if not one.file:
        return one
    found = (path.parent / one.file).resolve()
    if not found.is_relative_to(path.parent.resolve()) or not found.is_file():
        raise RecipeError(
            f"{path}: downloads: {one.file!r} is no file beside the recipe",
            "What lies elsewhere on this computer is not taken into an image.",
            f"Copy it to {path.parent}",
        )
    return dataclasses.replace(one, file=str(found))


def _overlay(path: Path, folder: Any) -> str:
    found = path.parent / str(folder)
    inside = found.resolve().is_relative_to(path.parent.resolve()) and found.resolve() != path.parent.resolve()
    if not isinstance(folder, str) or not inside or not found.is_dir():
        raise RecipeError(
            f"{path}: overlay: {folder!r} is not a folder beside the file",
            "What lies elsewhere on this computer is not taken into an image.",
            f"Make it: `mkdir {path.parent / 'overlay'}`, and write `overlay: overlay`",
        )
    for number, item in enumerate(sorted(found.rglob("*"))):
        if item.is_symlink() or not (item.is_file() or item.is_dir()) or number >= OVERLAY_FILES:
            raise RecipeError(
                f"{path}: overlay: {item} cannot be taken",
                f"It must hold at most {OVERLAY_FILES} plain files and folders.",
                "Links are written in the recipe: `links: {PATH: TARGET}`",
            )
    return str(found.resolve())
