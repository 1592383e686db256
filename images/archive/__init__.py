"""Debian's archive: signatures, indexes, dependencies, downloads."""

from images.archive.archive import (
    DEFAULT_MIRROR,
    Archive,
    Suite,
    fetch_packages,
    open_archive,
    suites_of,
    with_fresh_index,
)
from images.archive.fetch import Fetcher
from images.archive.packages import Package
from images.patience import Patience

__all__ = [
    "DEFAULT_MIRROR",
    "Archive",
    "Fetcher",
    "Package",
    "Patience",
    "Suite",
    "fetch_packages",
    "open_archive",
    "suites_of",
    "with_fresh_index",
]
