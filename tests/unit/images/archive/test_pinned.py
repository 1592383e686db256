"""Packages of another suite among those of the recipe's own."""

from __future__ import annotations

import pytest

from images.archive.packages import PackageIndex
from images.archive.pinned import PinnedIndex
from images.archive.resolver import resolve
from images.errors import ImageError


def fill(index: PackageIndex, *packages: str) -> PackageIndex:
    """Each package as `name=version [<field>: value; ...]`."""
    for package in packages:
        head, _, rest = package.partition(" ")
        name, _, version = head.partition("=")
        fields = "".join(f"{field.strip()}\n" for field in rest.split(";") if field.strip())
        stanza = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n{fields}"
            f"Filename: {name}.deb\nSize: 1\nSHA256: {name}\n"
        )
        index.add([stanza.encode()], "http://mirror.test")
    return index


def mixed(own: list[str], later: list[str], **pins: str) -> PinnedIndex:
    index = PinnedIndex(pins=pins, others={"forky": fill(PackageIndex(), *later)})
    fill(index, *own)
    return index


def versions(index: PackageIndex, *names: str) -> dict[str, str]:
    return {package.name: package.version for package in resolve(index, names)}


def test_only_what_is_pinned_comes_from_the_other_suite():
    shop = mixed(["engine=1 Depends: lib", "lib=1", "shell=1"], ["engine=2 Depends: lib", "lib=2"], engine="forky")
    assert versions(shop, "engine", "shell") == {"engine": "2", "lib": "1", "shell": "1"}


def test_what_the_own_suite_has_too_old_comes_with_it():
    shop = mixed(["engine=1", "lib=1"], ["engine=2 Depends: lib (>= 2), new", "lib=2", "new=2"], engine="forky")
    assert versions(shop, "engine") == {"engine": "2", "lib": "2", "new": "2"}


def test_a_provider_of_the_other_suite_helps_only_when_the_own_has_none():
    later = ["engine=2 Depends: mta, api-2", "x=2 Provides: api-2", "b=2 Provides: mta"]
    shop = mixed(["a=1 Provides: mta"], later, engine="forky")
    assert versions(shop, "engine") == {"a": "1", "engine": "2", "x": "2"}


def test_a_replaced_package_that_another_one_needs_is_told():
    own = ["lib=1", "tools=1 Depends: lib (<< 2)"]
    shop = mixed(own, ["engine=2 Depends: lib (>= 2)", "lib=2"], engine="forky")
    with pytest.raises(ImageError) as caught:
        resolve(shop, ["tools", "engine"])
    assert "tools 1 needs lib (<< 2), which another package replaced" in caught.value.details


def test_what_the_other_suite_lacks_is_told():
    with pytest.raises(ImageError) as caught:
        resolve(mixed(["engine=1"], ["other=1"], engine="forky"), ["engine"])
    assert "engine: no such package" in caught.value.details


def test_what_breaks_the_own_suites_is_told():
    own = ["engine=1", "tools=1 Breaks: engine (>> 1)"]
    later = ["engine=2 Depends: lib", "lib=2 Breaks: tools (<< 2)"]
    with pytest.raises(ImageError) as caught:
        resolve(mixed(own, later, engine="forky"), ["tools", "engine"])
    assert caught.value.details.splitlines() == [
        "lib 2 breaks tools (<< 2), and tools 1 is chosen (lib: needed by engine; tools: asked for)",
        "tools 1 breaks engine (>> 1), and engine 2 is chosen (tools: asked for; engine: asked for)",
    ]
    assert versions(mixed(own, later), "tools", "engine") == {"tools": "1", "engine": "1"}
