"""Who has a 9p folder, read from what the guest prints."""

from __future__ import annotations

from hostvm.shares.mounting import Holder, parse_holders

ONE, TWO = "1" * 64, "2" * 64
TOLD = f"""\
/proc/200/comm:sleep
/proc/200/cgroup:0::/docker/{ONE}
/proc/201/comm:sh
/proc/201/cgroup:0::/docker/{ONE}
/proc/300/comm:postgres
/proc/300/cgroup:0::/system.slice/docker-{TWO}.scope
/proc/400/comm:unshare
/proc/400/cgroup:0::/
"""
OPEN = """\
'/proc/1/cwd' -> '/'
'/proc/77/cwd' -> '/home/me/src'
'/proc/77/fd/3' -> '/home/me/src/x'
'/proc/78/fd/1' -> '/home/memory'
'/proc/79/root' -> '/'
"""


def test_each_container_is_told_once_and_programs_by_their_names():
    assert parse_holders(TOLD, ["/home/me"]) == [
        Holder(ONE, 200, "sleep"),
        Holder(TWO, 300, "postgres"),
        Holder("", 400, "unshare"),
    ]


def test_programs_are_told_that_have_something_open_below_a_folder():
    assert parse_holders(OPEN, ["/data", "/home/me"]) == [Holder("", 77, "/home/me/src")]
    assert parse_holders(OPEN, ["/data"]) == []


def test_nobody_is_nobody():
    assert parse_holders("", ["/home/me"]) == []
