"""The engines' own parts of a guest's stop, run by this computer's sh; clock, supervisor and engines are stand-ins."""

from __future__ import annotations

import pytest

PROGRAMS = {"s6-svc": "", "s6-svstat": "echo $PPID"}
PLACES = {
    "/run/hostvm/marks": "$root/marks",
    "/proc/uptime": "$root/uptime",
    "/usr/lib/hostvm/left-running": "$root/left-running",
}
# In the place of sleeping, the clock is set on. $ends: when (s) containers have ended by themselves.
PRELUDE = """\
now=0
seed=$root/seed
fail() { echo "fail $*"; }
usleep() { now=$((now + $1)); tick; }
tick() { [ $now -lt ${ends}000000 ] || ended; }
ended() { :; }
"""
DOCKER = PRELUDE + "ended() { : > $root/marks/engine-closed; }\n"
PODMAN = PRELUDE + "timeout() { [ $2 = podman ] && [ $1 -lt $ends ] && return 143; return 0; }\n"
CTR = (
    PRELUDE
    + """\
timeout() {
	case "$*" in
	"5 ctr namespaces ls -q") printf 'default\nother\n' ;;
	"5 ctr -n default tasks ls -q") echo one ;;
	"5 ctr -n other tasks ls -q") echo two ;;
	"5 ctr -n default tasks ls") echo "one 12 STOPPED" ;;
	"5 ctr -n other tasks ls") [ ! -e $root/running ] || echo "two 13 RUNNING" ;;
	*) echo "$*" ;;
	esac
}
tick() { echo "$((now / 1000000)).00 1.00" > $root/uptime; [ $now -lt ${ends}000000 ] || ended; }
ended() { rm -f $root/running; }
: > $root/running
tick
"""
)


@pytest.fixture
def stop(run_script, tmp_path):
    """What an engine's part of the stop says when containers take `ends` seconds."""
    (tmp_path / "marks").mkdir()
    (tmp_path / "left-running").write_text('[ ! -f $root/told ] || echo "$most rounds for what is left"\n')

    def run(engine, prelude, ends, **programs):
        name = f"{engine}/usr/lib/hostvm/engine-stop"
        return run_script(name, f"ends={ends}\n{prelude}", PROGRAMS | programs, PLACES)

    return run


@pytest.mark.parametrize(("engine", "prelude"), [("docker", DOCKER), ("podman", PODMAN)], ids=["docker", "podman"])
def test_containers_get_more_than_20_seconds(stop, engine, prelude):
    assert stop(engine, prelude, 290) == []


@pytest.mark.parametrize(("engine", "prelude"), [("docker", DOCKER), ("podman", PODMAN)], ids=["docker", "podman"])
def test_none_is_waited_for_without_an_end(stop, engine, prelude):
    (said,) = stop(engine, prelude, 310)
    assert said.startswith("fail stop-")
    assert said.endswith("killed after 5 minutes")


def test_what_a_killed_dockerd_left_has_the_rest_of_the_time(stop, tmp_path):
    (tmp_path / "told").touch()
    assert stop("docker", PRELUDE, 0, **{"s6-svstat": "echo -1"}) == ["6000 rounds for what is left"]
    assert stop("docker", DOCKER, 290) == ["200 rounds for what is left"]
    assert stop("docker", PRELUDE, 400) == ["fail stop-dockerd it and its containers were killed after 5 minutes"]


def test_another_failure_of_podman_is_told_as_what_it_is(stop):
    failing = PODMAN + "timeout() { [ $2 != podman ] || return 125; }\n"
    assert stop("podman", failing, 1) == ["fail stop-podman stopping containers ended with status 125"]


def test_tasks_of_all_namespaces_get_dockers_10_seconds(stop):
    assert stop("ctr", CTR, 9) == [
        "5 ctr -n default tasks kill --signal SIGTERM one",
        "5 ctr -n other tasks kill --signal SIGTERM two",
    ]


def test_tasks_that_do_not_end_are_told_of(stop):
    assert stop("ctr", CTR, 60)[2:] == ["fail stop-tasks killed after 10 s"]
