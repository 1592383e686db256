import time

import pytest

from hostvm.checks import Check, run_checks
from hostvm.errors import GuestTimeout, MachineError
from hostvm.guest import Completed

OK = Completed(0, b"", b"")
BAD = Completed(1, b"out", b"err")


class Guest:
    """Answers from a list, then with the last for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def run(self, argv, **options):
        self.asked.append(tuple(argv))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def check(name="disk", *, fatal=True):
    return Check(name, ("test", "-e", name), "hostvm logs", fatal=fatal)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("hostvm.checks._PAUSE", 0.0)
    monkeypatch.setattr("hostvm.checks._PAUSE_MOST", 0.0)


def test_all_hold():
    guest = Guest(OK)
    assert run_checks(guest, [check("a"), check("b")], time.monotonic() + 9) == []
    assert guest.asked == [("test", "-e", "a"), ("test", "-e", "b")]


def test_tried_until_it_holds():
    guest = Guest(BAD, BAD, OK)
    run_checks(guest, [check()], time.monotonic() + 9)
    assert len(guest.asked) == 3


def test_failure_tells_all(tmp_path):
    console = tmp_path / "console.log"
    console.write_text("panic\n")
    with pytest.raises(MachineError) as caught:
        run_checks(Guest(BAD), [check()], 0.0, console=console)
    assert caught.value == MachineError(
        "the machine is up, but this check failed: disk",
        f"test -e disk ended with status 1\nerrout\nthe guest's console ({console}) ends with:\npanic",
        "hostvm logs",
    )


def test_a_check_that_hangs_counts_as_failed():
    slow = GuestTimeout("a program in the guest took too long", "test -e disk", "x")
    with pytest.raises(MachineError) as caught:
        run_checks(Guest(slow), [check()], 0.0)
    assert "took too long" in caught.value.details


def test_soft_ones_warn_once():
    guest = Guest(BAD)
    assert run_checks(guest, [check(fatal=False)], time.monotonic() + 9) == ["disk: hostvm logs (errout)"]
    assert len(guest.asked) == 1


def test_an_empty_list_asks_nothing():
    assert run_checks(Guest(BAD), [], 0.0) == []
