"""Which containers of Podman a boot starts, by a stand-in for Podman with a table `ID POLICY STATE`."""

from __future__ import annotations

import pytest

from images.recipe import FILES

NAME = "podman/usr/lib/hostvm/residents"
PODMAN = r"""
case "$1" in
ps)
	policy= all=
	for word; do
		case "$word" in restart-policy=*) policy=${word#*=} ;; -a) all=1 ;; esac
	done
	while read -r id its state; do
		[ "$its" = "$policy" ] && { [ "$all" ] || [ $state = up ]; } && echo $id
	done < $root/containers
	true
	;;
start)
	shift
	for id; do
		sed -i "s/^$id \(.*\) .*/$id \1 up/" $root/containers
		[ ! -f $root/stop ] || . $root/stop
	done
	;;
esac
"""


class Guest:
    def __init__(self, root, run_script):
        self.root, self.run_script = root, run_script

    def has(self, **containers):
        """`ID="POLICY STATE"`."""
        lines = [f"{ident} {facts}\n" for ident, facts in containers.items()]
        (self.root / "containers").write_text("".join(lines))

    def does(self, what):
        places = {"/var/lib/hostvm": f"{self.root}/disk"}
        program = {"podman": f"root={self.root}\n{PODMAN}"}
        assert self.run_script(NAME, f"set -- {what}", program, places) == []

    def boots(self):
        """Containers that run then."""
        text = (self.root / "containers").read_text()
        (self.root / "containers").write_text(text.replace(" up\n", " off\n"))
        self.does("start")
        return self.up()

    def up(self):
        rows = [line.split() for line in (self.root / "containers").read_text().splitlines()]
        return {ident for ident, _, state in rows if state == "up"}

    def lists(self):
        return [path.name for path in (self.root / "disk").iterdir()]


@pytest.fixture
def guest(tmp_path, run_script):
    (tmp_path / "disk").mkdir()
    return Guest(tmp_path, run_script)


def test_what_ran_at_the_stop_and_what_always_runs(guest):
    guest.has(a="always off", b="unless-stopped up", c="unless-stopped off", d="no up")
    guest.does("note")
    assert guest.boots() == {"a", "b"}
    assert guest.lists() == []


def test_none_ran(guest):
    guest.has(c="unless-stopped off")
    guest.does("note")
    assert guest.boots() == set()
    assert guest.lists() == []


def test_after_a_power_cut_all_of_them_run(guest):
    guest.has(a="always up", b="unless-stopped up", c="unless-stopped off", d="no up")
    assert guest.boots() == {"a", "b", "c"}
    assert guest.lists() == []


@pytest.mark.parametrize("noted", [True, False])
def test_a_stop_in_the_midst_of_their_start_forgets_none(guest, noted):
    """It comes when the first of three was started."""
    guest.has(b1="unless-stopped up", b2="unless-stopped up", b3="unless-stopped up", c="unless-stopped off")
    if noted:
        guest.does("note")
    (guest.root / "stop").write_text(f"rm {guest.root}/stop; $root/stopping; exit\n")
    places = f"s,/var/lib/hostvm,{guest.root}/disk,"
    script = f"#!/bin/sh\nexport PATH={guest.root}:$PATH\nsed '{places}' {FILES / NAME} > $0.sh\nsh $0.sh note\n"
    (guest.root / "stopping").write_text(script)
    (guest.root / "stopping").chmod(0o755)
    assert guest.boots() == {"b1"}
    assert guest.boots() == {"b1", "b2", "b3"} | (set() if noted else {"c"})


def test_one_that_is_gone_by_then_is_not_asked_for(guest):
    guest.has(b1="unless-stopped up", b2="unless-stopped up")
    guest.does("note")
    (guest.root / "disk/residents").rename(guest.root / "disk/residents.begun")
    guest.has(b1="unless-stopped up")
    guest.does("note")
    assert set((guest.root / "disk/residents").read_text().split()) == {"b1"}


def test_a_power_cut_in_the_midst_of_their_start_neither(guest):
    guest.has(b1="unless-stopped up", b2="unless-stopped up", c="unless-stopped off")
    guest.does("note")
    (guest.root / "disk/residents").rename(guest.root / "disk/residents.begun")
    assert guest.boots() == {"b1", "b2"}
    assert guest.lists() == []
