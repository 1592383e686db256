"""`-e NAME` and `--build-arg NAME`, whose value is this computer's."""

from __future__ import annotations

import pytest

from cli.env_words import may_name_variables, with_values

HERE = {"USER": "ann", "SSH_TTY": "/dev/pts/1", "MINE": "x y", "HOME": "/home/ann"}
THERE = {"MINE": "x y"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run -e USER image", "run -e USER=ann image"),
        ("run -eUSER image", "run -eUSER=ann image"),
        ("run -ite USER image", "run -ite USER=ann image"),
        ("run --rm --env USER --env=SSH_TTY image", "run --rm --env USER=ann --env=SSH_TTY=/dev/pts/1 image"),
        ("container create -e=USER image", "container create -e=USER=ann image"),
        ("-l debug exec -e HOME one env", "-l debug exec -e HOME=/home/ann one env"),
        ("compose -p x run -e USER web", "compose -p x run -e USER=ann web"),
        ("compose exec --env HOME web env", "compose exec --env HOME=/home/ann web env"),
        ("compose build --build-arg USER web", "compose build --build-arg USER=ann web"),
        ("build --build-arg USER --build-arg=HOME .", "build --build-arg USER=ann --build-arg=HOME=/home/ann ."),
        ("buildx build . --build-arg USER", "buildx build . --build-arg USER=ann"),
    ],
)
def test_what_does_not_travel_gets_its_value(line, found):
    assert may_name_variables(line.split())
    assert with_values(line.split(), HERE, THERE) == found.split()


@pytest.mark.parametrize(
    "line",
    [
        "run -e MINE image",  # which travels
        "run -e OTHER image",  # which is nowhere: docker leaves it out
        "run -e USER=x --env=HOME= image",
        "run -w e image -e USER",  # the program's own
        "run -he USER image",  # a host name
        "run image sh -e USER",
        "exec one env -e USER",
        "build -t USER --label USER .",
        "run -e",
        "ps -e USER",
    ],
)
def test_all_else_stays_as_it_is(line):
    assert with_values(line.split(), HERE, THERE) == line.split()
