"""Taking secrets out of text that somebody is about to send to somebody else."""

from __future__ import annotations

import re
from pathlib import Path

MASK = "[redacted]"

_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_USER_IN_URL = re.compile(r"(?P<front>\b[a-z][a-z0-9+.-]*://)[^/\s@\"']+@", re.IGNORECASE)
_HEADER = re.compile(r"(?P<front>\b(?:proxy-)?authorization\b\s*[:=]\s*)[^\r\n]+", re.IGNORECASE)
# NAME=value, "name": "value", --name value; the name holds one of these words.
_NAMED = re.compile(
    r"(?P<front>[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|credential|identitytoken|\bauth)[\w.-]*"
    r"[\"']?\s*(?:[:=]|\s(?=[^\s=:]))\s*)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}\"']+)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text with private keys, passwords, tokens and the home folder's name masked.

    Goes by names and shapes: a secret without either stays, which the bundle's README says.
    """
    text = _KEY.sub(MASK, text)
    text = _USER_IN_URL.sub(rf"\g<front>{MASK}@", text)
    text = _HEADER.sub(rf"\g<front>{MASK}", text)
    text = _NAMED.sub(rf"\g<front>{MASK}", text)
    return text.replace(str(Path.home()), "~") if str(Path.home()) != Path.home().anchor else text
