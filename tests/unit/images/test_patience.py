"""How long a server that wants to be left alone is left alone."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
import requests

from images import patience as module
from images.patience import LOOK, WAIT_MOST, Patience, asked_of, asked_wait, status_text

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: NOW)


def refused(said, status=429):
    response = requests.Response()
    response.status_code, response.reason = status, "Too Many Requests"
    response.headers["retry-after"] = said
    return requests.ConnectionError("429 Too Many Requests", response=response)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("9" * 5000, 999_999_999),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW + 90), 90),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("٣", 0),
        ("Fri, 99 Foo 99999999999 08:01:30 GMT", 0),
    ],
)
def test_what_a_server_asks_for(said, seconds):
    assert asked_wait({"Retry-After": said}) == seconds
    assert asked_of(refused(said)) == seconds


def test_most_errors_ask_for_nothing():
    assert asked_wait({}) == asked_of(OSError("cut")) == asked_of(requests.ConnectionError("cut")) == 0


def test_it_waits_as_long_as_it_is_asked_to_and_not_longer_than_a_minute():
    slept, notes = [], []
    patience = Patience(sleep=slept.append, note=notes.append)
    patience.rest(4.0, "https://r.test/v2/", refused("30"))
    assert sum(slept) == 30
    assert max(slept) == LOOK
    patience.rest(4.0, "https://me:secret@r.test:5000/v2/", refused("7200"))
    assert sum(slept) == 30 + WAIT_MOST
    assert notes == [
        "r.test asks to wait: 429 Too Many Requests; the next try is in 30 s, what came so far is kept",
        "r.test:5000 asks to wait: 429 Too Many Requests; the next try is in 60 s, what came so far is kept",
    ]


def test_what_is_less_than_usual_changes_nothing_and_is_not_told():
    slept = []
    patience = Patience(sleep=slept.append, note=pytest.fail)
    for error in (refused("4"), refused(""), requests.ConnectionError("cut")):
        patience.rest(4.0, "https://r.test", error)
    assert slept == [4.0] * 3


def test_of_several_that_wait_one_tells():
    notes = []

    def sleep(_):
        if len(inner) < 3:
            inner.append(0)
            patience.rest(0.1, "https://r.test", refused("1"))

    inner: list[int] = []
    patience = Patience(sleep=sleep, note=notes.append)
    patience.rest(0.1, "https://r.test", refused("1"))
    assert len(inner) == 3
    assert len(notes) == 1
    patience.rest(0.1, "https://r.test", refused("1"))
    assert len(notes) == 2


def test_who_is_not_wanted_any_more_waits_no_longer():
    slept = []

    def check():
        if slept:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Patience(sleep=slept.append).rest(0.1, "https://r.test", refused("50"), check)
    assert slept == [LOOK]


def test_no_attempt_begins_after_the_deadline():
    patience, started = Patience(attempts=3, deadline=50.0), time.monotonic()
    assert not patience.is_over(2, started, refused("40"))
    assert patience.is_over(2, started, refused("600"))
    assert patience.is_over(3, started, refused("1"))


def test_long_waits_are_told_in_the_error():
    assert status_text(refused("60").response) == "429 Too Many Requests"
    assert status_text(refused("3600").response) == "429 Too Many Requests, and nothing else for 3600 s"
