"""Downloads: resumed, retried, bounded, never trusted unchecked."""

from __future__ import annotations

import errno
import hashlib
import itertools
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from filelock import FileLock

from images.archive.fetch import FURTHER, Wanted
from images.disk import DiskFullError
from images.errors import HashError, MirrorError
from images.patience import Patience
from images.progress import NullProgress

DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def wanted(archive) -> Wanted:
    archive.write("file", DATA)
    return Wanted("file", (f"{archive.mirror}/file",), hashlib.sha256(DATA).hexdigest(), len(DATA))


def fetch(fetcher, *items, progress=None):
    return fetcher.fetch_all(items, progress or NullProgress(), "files")


def partial(cache, wanted):
    return cache / "archive" / "partial" / f"{wanted.sha256}.part"


class Counting(NullProgress):
    def __init__(self):
        self.done = 0

    @contextmanager
    def task(self, name, total, unit=""):
        self.total = total
        yield self

    def advance(self, amount):
        self.done += amount


def test_a_cut_connection_is_continued_where_it_ended(fetcher, adapter, wanted):
    adapter.cut = 300_000
    counting = Counting()
    assert fetch(fetcher, wanted, progress=counting)[0].read_bytes() == DATA
    assert [wanted_range for _, wanted_range in adapter.requests] == [None, "bytes=300000-"]
    assert counting.done == counting.total == len(DATA)


def test_a_part_of_an_earlier_run_is_continued(fetcher, adapter, wanted, cache):
    partial(cache, wanted).parent.mkdir(parents=True)
    partial(cache, wanted).write_bytes(DATA[:1000])
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert adapter.requests == [("debian/file", "bytes=1000-")]
    assert not partial(cache, wanted).exists()


def test_a_complete_part_needs_no_request(fetcher, adapter, wanted, cache):
    partial(cache, wanted).parent.mkdir(parents=True)
    partial(cache, wanted).write_bytes(DATA)
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert adapter.requests == []


def test_a_damaged_part_is_thrown_away(fetcher, adapter, wanted, cache):
    partial(cache, wanted).parent.mkdir(parents=True)
    partial(cache, wanted).write_bytes(b"x" * 1000)
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert [wanted_range for _, wanted_range in adapter.requests] == ["bytes=1000-", None]


def test_a_server_without_ranges_starts_over(fetcher, adapter, wanted):
    adapter.cut, adapter.ranges = 300_000, False
    counting = Counting()
    assert fetch(fetcher, wanted, progress=counting)[0].read_bytes() == DATA
    assert counting.done == len(DATA)


def test_what_is_cached_is_not_fetched_again(fetcher, adapter, wanted):
    fetch(fetcher, wanted)
    fetch(fetcher, wanted)
    assert len(adapter.requests) == 1


def test_a_damaged_cached_file_is_fetched_again(fetcher, adapter, wanted):
    path = fetch(fetcher, wanted)[0]
    path.write_bytes(b"x" + DATA[1:])
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert len(adapter.requests) == 2


def bad_blocks(path, *_, **__):
    raise OSError(errno.EIO, "Input/output error", str(path))


def test_a_cached_file_that_the_disk_does_not_read_any_more_is_fetched_again(fetcher, adapter, wanted, monkeypatch):
    fetch(fetcher, wanted)
    monkeypatch.setattr("images.archive.fetch.sha256_file", bad_blocks)
    assert not fetcher.has(wanted.sha256)
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert len(adapter.requests) == 2


def test_so_is_a_part_of_an_earlier_run(fetcher, adapter, wanted, cache, monkeypatch):
    partial(cache, wanted).parent.mkdir(parents=True)
    partial(cache, wanted).write_bytes(DATA[:1000])
    usual, bad = Path.open, (partial(cache, wanted), "rb")
    monkeypatch.setattr(Path, "open", lambda *words, **more: (bad_blocks if words == bad else usual)(*words, **more))
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert adapter.requests == [("debian/file", None)]


@pytest.mark.parametrize("more", [1, 3 << 20])
def test_a_part_that_is_too_long_is_no_part(fetcher, adapter, wanted, cache, more):
    partial(cache, wanted).parent.mkdir(parents=True)
    partial(cache, wanted).write_bytes(DATA + bytes(more))
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert adapter.requests == [("debian/file", None)]


def test_passing_faults_are_retried(fetcher, adapter, wanted):
    adapter.faults = [requests.ConnectionError("reset"), 503]
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA


@pytest.fixture
def waits(fetcher):
    """What is slept, and what is told meanwhile."""
    slept, notes = [], []
    fetcher._patience = Patience(attempts=3, deadline=50.0, sleep=slept.append, note=notes.append)
    return slept, notes


def test_a_server_that_asks_to_wait_is_left_alone_for_as_long(fetcher, adapter, wanted, waits):
    slept, notes = waits
    adapter.faults, adapter.late = [429, 503], "20"
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert sum(slept) == 40
    assert [note.split(";")[0] for note in notes] == [
        "mirror.test asks to wait: 429 as the test says",
        "mirror.test asks to wait: 503 as the test says",
    ]


def test_one_that_asks_for_more_than_there_is_time_is_given_up(fetcher, adapter, wanted, waits):
    adapter.faults, adapter.late = [429] * 3, "3600"
    with pytest.raises(MirrorError) as error:
        fetch(fetcher, wanted)
    assert error.value.details == "429 as the test says, and nothing else for 3600 s (tried 1 times)"
    assert waits == ([], [])


def test_who_waits_hears_that_another_download_failed(fetcher, adapter, wanted):
    adapter.faults, adapter.late = [429], "40"
    failed, slept = threading.Event(), []

    def sleep(seconds):
        slept.append(seconds)
        failed.set()

    fetcher._patience = Patience(attempts=3, sleep=sleep)
    with pytest.raises(MirrorError, match="fetching file was given up"):
        fetcher._fetch(wanted, Counting(), failed)
    assert slept == [0.5]


class Cutting:
    """A way through which no answer comes farther than `most` bytes."""

    def __init__(self, adapter, most) -> None:
        usual = adapter._answer

        def answer(request):
            adapter.cut = most
            return usual(request)

        adapter._answer = answer


def test_interruptions_do_not_count_while_they_bring_it_further(fetcher, adapter, archive, monkeypatch):
    """Nor does the time: on a slow line half an hour is soon over."""
    data, now = DATA * 6, itertools.count(0, 3600)
    monkeypatch.setattr("images.archive.fetch.time.monotonic", lambda: next(now))
    archive.write("file", data)
    large = Wanted("file", (f"{archive.mirror}/file",), hashlib.sha256(data).hexdigest(), len(data))
    Cutting(adapter, FURTHER)
    assert fetch(fetcher, large)[0].read_bytes() == data
    assert len(adapter.requests) == 6


@pytest.mark.parametrize("ranges", [True, False])
def test_they_do_while_it_comes_no_further(fetcher, adapter, archive, ranges):
    data = DATA * 6
    archive.write("file", data)
    large = Wanted("file", (f"{archive.mirror}/file",), hashlib.sha256(data).hexdigest(), len(data))
    adapter.ranges = ranges
    Cutting(adapter, 1000 if ranges else FURTHER)
    with pytest.raises(MirrorError, match="cannot fetch") as error:
        fetch(fetcher, large)
    assert error.value.details.endswith("(tried 3 times)")
    assert len(adapter.requests) == 3


def test_an_unreachable_mirror_is_told_with_what_to_do(fetcher, adapter, wanted, cache):
    adapter.faults = [requests.ConnectionError("no route to host")] * 3
    with pytest.raises(MirrorError) as error:
        fetch(fetcher, wanted)
    assert error.value.brief == f"cannot fetch {wanted.urls[0]}"
    assert error.value.details == "no route to host (tried 3 times)"
    assert "hostvm image build --mirror" in error.value.resolution
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA  # a retry works


def test_a_missing_file_is_not_retried_but_sought_at_the_next_address(fetcher, adapter, wanted, archive):
    twice = Wanted("file", (f"{archive.mirror}/by-hash/x", *wanted.urls), wanted.sha256, wanted.size)
    assert fetch(fetcher, twice)[0].read_bytes() == DATA
    assert [path for path, _ in adapter.requests] == ["debian/by-hash/x", "debian/file"]


def test_a_file_no_address_has(fetcher, archive):
    nowhere = Wanted("file", (f"{archive.mirror}/none",), "0" * 64, 1)
    with pytest.raises(MirrorError, match="the mirror has no file"):
        fetch(fetcher, nowhere)


def test_more_than_promised_is_refused(fetcher, archive, wanted, cache):
    short = Wanted("file", wanted.urls, wanted.sha256, 1000)
    with pytest.raises(HashError, match="not what the signed index promises"):
        fetch(fetcher, short)
    assert not partial(cache, short).exists()


def test_less_than_promised_is_refused_at_once(fetcher, adapter, archive, wanted):
    archive.write("file", DATA[:1000])
    with pytest.raises(HashError) as error:
        fetch(fetcher, wanted)
    assert "(1000 bytes)" in error.value.details
    assert len(adapter.requests) == 1


def test_an_address_that_is_none(fetcher):
    with pytest.raises(MirrorError, match="is not an address"):
        fetcher.read("deb.debian.org/debian", 100)


def test_a_small_file_has_a_limit(fetcher, archive):
    archive.write("InRelease", b"x" * 1001)
    assert len(fetcher.read(f"{archive.mirror}/InRelease", 1001)) == 1001
    with pytest.raises(MirrorError, match="too long"):
        fetcher.read(f"{archive.mirror}/InRelease", 1000)


def test_a_full_disk_is_told_and_leaves_no_whole_file(fetcher, wanted, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("images.archive.fetch.Fetcher._append", full)
    with pytest.raises(DiskFullError) as error:
        fetch(fetcher, wanted)
    assert error.value.brief == f"no space left in {fetcher.root}"
    assert not fetcher.path(wanted.sha256).exists()
    monkeypatch.undo()
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA


def test_four_files_come_at_once(fetcher, adapter, archive, gate):
    contents = [bytes([number]) * 1000 for number in range(7)]
    items = []
    for number, data in enumerate(contents):
        archive.write(f"file{number}", data)
        url = f"{archive.mirror}/file{number}"
        items.append(Wanted(f"file{number}", (url,), hashlib.sha256(data).hexdigest(), len(data)))
    adapter.gate = gate(4)
    assert [path.read_bytes() for path in fetch(fetcher, *items)] == contents
    assert adapter.gate.most == 4


def test_the_first_fault_ends_the_others(fetcher, archive, wanted):
    bad = Wanted("bad", (f"{archive.mirror}/none",), "0" * 64, 1)
    with pytest.raises(MirrorError, match="the mirror has no bad"):
        fetch(fetcher, bad, wanted)


def test_it_ends_one_that_waits_for_another_hostvm_too(fetcher, archive, wanted, cache):
    """A Ctrl-C is such a fault."""
    bad = Wanted("bad", (f"{archive.mirror}/none",), "0" * 64, 1)
    path = partial(cache, wanted).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    told = []

    def both():
        with pytest.raises(MirrorError, match="the mirror has no bad") as fault:
            fetch(fetcher, bad, wanted)
        told.append(fault.value)

    with FileLock(path):
        waiting = threading.Thread(target=both, daemon=True)
        waiting.start()
        waiting.join(10)
        assert told


def test_what_another_hostvm_fetches_is_waited_for(fetcher, adapter, wanted, cache, monkeypatch):
    monkeypatch.setattr("images.archive.fetch.LOOK", 0.01)
    path = partial(cache, wanted).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    tries, acquire = [], FileLock.acquire

    def watched(lock, timeout=None):
        tries.append(timeout)
        if len(tries) == 3:
            held.release()
        return acquire(lock, timeout=timeout)

    held = FileLock(path, thread_local=False)
    held.acquire()
    monkeypatch.setattr(FileLock, "acquire", watched)
    assert fetch(fetcher, wanted)[0].read_bytes() == DATA
    assert len(tries) >= 3
