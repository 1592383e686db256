"""What the tests of this folder share."""

from __future__ import annotations

import contextlib
import os

import pytest


@pytest.fixture
def no_more_descriptors():
    """A context in which this process can open nothing more."""

    @contextlib.contextmanager
    def none_left():
        import resource

        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    return none_left
