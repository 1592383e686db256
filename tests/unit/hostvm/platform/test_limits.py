from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from hostvm.platform import limits

INFINITE = 2**63 - 1


@pytest.fixture
def system(monkeypatch):
    """A macOS: it refuses more descriptors than `most`, though its hard limit has no end."""

    def make(soft, hard, most):
        now = [soft, hard]

        def setrlimit(_, wanted):
            if wanted[0] > most:
                raise ValueError("current limit exceeds maximum limit")
            now[:] = wanted

        fake = SimpleNamespace(RLIMIT_NOFILE=8, RLIM_INFINITY=INFINITE, getrlimit=lambda _: tuple(now))
        fake.setrlimit = setrlimit
        monkeypatch.setitem(sys.modules, "resource", fake)
        monkeypatch.setattr(limits.sys, "platform", "darwin")
        limits.raise_descriptor_limit()
        return now

    return make


@pytest.mark.parametrize(("most", "got"), [(184320, 65536), (61440, 32768), (10240, 8192), (256, 256)])
def test_where_the_system_gives_fewer_there_are_more_than_it_began_with(system, most, got):
    assert system(256, INFINITE, most) == [got, INFINITE]


def test_a_limit_is_never_lowered(system):
    assert system(100000, INFINITE, 184320) == [100000, INFINITE]
    assert system(INFINITE, INFINITE, 184320) == [INFINITE, INFINITE]
    assert system(1024, 4096, 184320) == [4096, 4096]
