"""Addresses as they may be shown and kept: the login in `https://USER:PASSWORD@HOST/…` is for whoever answers there."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=://)[^\s/?#]*@")


def without_login(text: str) -> str:
    """An address, or a text with some in it, without users and passwords."""
    return _LOGIN.sub("", text)
