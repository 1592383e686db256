"""Debian's signed archive: keys, indexes, dependency closure, downloads, packages."""
