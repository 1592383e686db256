from __future__ import annotations

import psutil

from hostvm.platform.memory import total_memory


def test_it_is_what_psutil_says():
    assert total_memory() == psutil.virtual_memory().total
