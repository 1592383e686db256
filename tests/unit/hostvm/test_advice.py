"""Commands that errors advise: of which machine."""

from __future__ import annotations

import pytest

from hostvm.advice import for_machine, machine_named
from hostvm.errors import DriverError


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("hostvm restart   # plants it anew", "hostvm -m ci restart   # plants it anew"),
        ("hostvm stop && hostvm start   # if it stays", "hostvm -m ci stop && hostvm -m ci start   # if it stays"),
        ("hostvm shell -- top -bn1   # shows", "hostvm -m ci shell -- top -bn1   # shows"),
        ("look: hostvm logs --console; df -h", "look: hostvm -m ci logs --console; df -h"),
        ("hostvm mount rm, then hostvm mount add A:/b", "hostvm -m ci mount rm, then hostvm -m ci mount add A:/b"),
        ("hostvm stop --force", "hostvm -m ci stop --force"),
        ("look: hostvm status\nor: hostvm logs --agent", "look: hostvm -m ci status\nor: hostvm -m ci logs --agent"),
    ],
)
def test_a_command_without_a_machine_gets_the_one_that_the_error_is_of(said, told):
    assert for_machine(said, "ci") == told
    assert for_machine(told, "ci") == told
    assert for_machine(said, "default") == said


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "hostvm restart ci   # its log: hostvm logs --agent ci",
        "make another one: hostvm start NEW --engine docker",
        "hostvm -m ci docker start web",
        "hostvm mount ls -m ci",
        "see: hostvm mount add --help",
        "hostvm image ls",
        "hostvm doctor",
        "df -h .   # is the disk full?",
    ],
)
def test_any_other_text_stays(said):
    assert for_machine(said, "other") == said


def test_an_error_stays_what_it_is():
    with pytest.raises(DriverError) as caught, machine_named("ci"):
        raise DriverError("it does not run on", "why", "hostvm stop --force")
    assert caught.value == DriverError("it does not run on", "why", "hostvm -m ci stop --force")
