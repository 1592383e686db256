from __future__ import annotations

import dataclasses
import json

import pytest

from images.build import recipe_digest
from images.errors import RecipeError
from images.own_recipe import load_own_recipe, merge, with_packages
from images.recipe import find_recipe


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_adding_to_a_shipped_recipe(write, tmp_path):
    (tmp_path / "etc-of-mine" / "etc").mkdir(parents=True)
    (tmp_path / "etc-of-mine" / "etc" / "motd").write_text("hello\n")
    text = (
        "name: mine\nbase: docker\npackages: [htop, openssl, bash]\nlinks: {usr/bin/top: htop}\noverlay: etc-of-mine\n"
    )
    recipe, docker = load_own_recipe(write(text)), find_recipe()
    assert recipe.packages == (*docker.packages, "htop", "openssl")
    assert "openssl" in docker.exclude_packages
    assert "openssl" not in recipe.exclude_packages
    assert recipe.links == docker.links | {"usr/bin/top": "htop"}
    assert (recipe.name, recipe.suite, recipe.files) == ("mine", docker.suite, docker.files)
    assert recipe_digest(recipe) != recipe_digest(docker)


def test_what_is_in_the_overlay_counts_and_not_where_it_lies(tmp_path):
    digests = []
    for name, content in (("a", "x"), ("b", "x"), ("c", "y")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_text(content)
        digests.append(recipe_digest(dataclasses.replace(find_recipe(), overlay=str(folder))))
    assert digests[0] == digests[1] != digests[2]
    assert recipe_digest(find_recipe()) not in digests


def test_packages_on_the_spot():
    docker = find_recipe()
    recipe = with_packages(docker, ["htop", "bash", "openssl"], None)
    assert (recipe.name, recipe.packages) == ("docker-custom", (*docker.packages, "htop", "openssl"))
    assert "openssl" not in recipe.exclude_packages
    assert with_packages(docker, [], None) is docker
    assert with_packages(docker, [], "mine").name == "mine"
    with pytest.raises(RecipeError, match="is a recipe of hostvm"):
        with_packages(docker, ["htop"], "docker")


@pytest.mark.parametrize("name", ["team/docker", "My Image", "", "_x", "x\n", "x" * 129, "ä"])
def test_a_name_that_others_would_refuse_is_refused_at_once(write, name):
    """By `image import` and `image pull`, that is, after it was built and sent."""
    with pytest.raises(RecipeError, match="cannot be an image's name"):
        with_packages(find_recipe(), ["htop"], name)
    with pytest.raises(RecipeError, match="1 faults") as error:
        load_own_recipe(write(f"name: {json.dumps(name)}\nbase: docker"))
    assert error.value.details.startswith("name: ")


@pytest.mark.parametrize("name", ["Mine", "8ball", "mine-1.0+a_b"])
def test_other_names(write, name):
    assert with_packages(find_recipe(), [], name).name == name
    assert load_own_recipe(write(f"name: {name}\nbase: docker")).name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "cannot be read as a recipe"),
        ("- a", "is not a recipe"),
        ("base: docker", "needs a name of its own"),
        ("name: docker\nbase: docker", "needs a name of its own"),
        ("name:\nbase: docker", "1 faults"),
        ("name: mine\nbase: none", "no recipe 'none'"),
        ("name: mine\nbase: docker\npackages: htop\nsuit: x", "2 faults"),
        ("name: mine", "3 faults"),
        ("name: mine\nbase: docker\noverlay: ../elsewhere", "is not a folder beside the file"),
        ("name: mine\nbase: docker\noverlay: .", "is not a folder beside the file"),
        ("name: mine\nbase: docker\noverlay: /etc", "is not a folder beside the file"),
        ("name: mine\nbase: docker\noverlay: [x]", "is not a folder beside the file"),
    ],
)
def test_faults(write, text, words):
    with pytest.raises(RecipeError, match=words) as error:
        load_own_recipe(write(text))
    assert error.value.resolution


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        load_own_recipe(tmp_path / "none.yaml")


def test_no_link_leads_out_of_an_overlay(write, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "shadow").symlink_to("/etc/shadow")
    with pytest.raises(RecipeError, match="cannot be taken"):
        load_own_recipe(write("name: mine\nbase: docker\noverlay: o"))
    (tmp_path / "p").symlink_to("/etc")
    with pytest.raises(RecipeError, match="is not a folder beside"):
        load_own_recipe(write("name: mine\nbase: docker\noverlay: p"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("users:\n- {name: x, uid: 010, home: /}", "line 4: users[0].uid: 010 is 8 or 10, as one reads it"),
        ("packages: [htop]\npackages: [bash]", "line 1: has packages twice, in line 3 and in line 4"),
        ("links: &a {usr/bin/x: y}\ndirs: {<<: *a}", "line 4: dirs.'<<': merges are not read"),
        ("links: {usr/bin/x: !!binary aGk=}", "line 3: links.'usr/bin/x': has the tag"),
        ("finish: &a [*a]", "line 3: finish[0]: contains itself"),
    ],
)
def test_what_can_be_read_in_two_ways_is_told_with_its_line(write, text, told):
    """A user's number was another one without a word, and of two keys the first was lost."""
    with pytest.raises(RecipeError, match="cannot be read as a recipe") as error:
        load_own_recipe(write(f"name: mine\nbase: docker\n{text}\n"))
    assert str(error.value.details).startswith(told)


def test_keys_are_words_and_so_is_what_is_no_number_to_people(write):
    recipe = load_own_recipe(write("name: mine\nbase: docker\nlinks: {on: 1:30, 2020-01-02: 2020-01-02}\n"))
    assert recipe.links.items() >= {"on": "1:30", "2020-01-02": "2020-01-02"}.items()


def test_merging():
    base = {"a": [1, 2], "b": {"x": 1, "y": 2}, "c": "old"}
    own = {"a": [2, 3], "b": {"y": 5}, "c": "new", "d": 1}
    assert merge(base, own) == {"a": [1, 2, 3], "b": {"x": 1, "y": 5}, "c": "new", "d": 1}
    excluded = {"exclude_packages": {"p": "why", "q": "why"}}
    assert merge(excluded, {"packages": ["p"]})["exclude_packages"] == {"q": "why"}
