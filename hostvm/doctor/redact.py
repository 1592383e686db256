"""Taking secrets out of text that somebody is about to send to somebody else.

What has no clear end is masked to the end of its line: too much is better than too little.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

MASK = "[redacted]"

# A name that holds one of these is a secret's. The weak ones are also words of prose: they need a `:` or `=`, or to be
# an option's name.
_STRONG = re.compile(
    r"passw(?:or)?d|passphrase|(?:require|pg|auth)pass|secret|token|credential"
    r"|(?:api|access|private|signing|encryption)[_-]?key",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"(?<![a-z])(?:pass|auth|t?otp|salt)(?![a-z])|(?-i:(?<=[a-z0-9])(?:Pass|Otp|Salt)(?![a-z]))"
    r"|(?<=[_.-])(?:pwd|pw|psk|pat|cookie)(?![a-z])"
    r"|^(?:pwd|pw|psk|jwt|creds)$"
    r"|(?<=[_.-])key$|(?-i:(?<=[a-z0-9])Key$)|webhook(?:[_-]?url)?$|accesssignature$",
    re.IGNORECASE,
)
_FOLDER = re.compile(r"\s*[\"']?[/~]")  # PWD is the shell's folder, too

_QUOTE = r"\\*[\"']"
_QUOTED = (
    r"(?:\"(?:\\.|[^\"\\\n])*\"(?=[\s,;}\])]|$)"
    r"|'(?:''|[^'\n])*'(?=[\s,;}\])]|$)"
    # In JSON that is text in JSON: ends with the same quote, which has no backslash more.
    r"|(?P<escaped>\\+[\"'])(?:(?!(?<!\\)(?P=escaped))[^\n])*(?<!\\)(?P=escaped)(?=[\s,;}\])\\]|$))"
)

_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://(?P<rest>\S{0,4096}+)", re.IGNORECASE)
# A proxy may be named without its scheme.
_PROXY = re.compile(
    rf"(?P<front>(?:_|(?:https?|ftp|all)-?)proxy(?:{_QUOTE})?[ \t]*[:=][ \t]*(?:{_QUOTE})?)"
    r"(?P<rest>[^\s\"']{0,4096}+)",
    re.IGNORECASE,
)
# So may any other address. No image by its digest, place on another host, path, mail address, time, or unit of systemd
# for a user or terminal is one; a password may hold `@`.
_USER = re.compile(
    r"(?<![\w.@:/+%~\\-])(?!(?:mailto|acct|sips?|xmpp|npm|pkg):|\d{4}-\d\d-\d\dT\d\d:)"
    r"[\w.+%~\\-]{1,64}(?P<domain>@[\w.-]{1,64})?:"
    r"(?![/\\])(?(domain)[^\s\"'/]|[^\s\"']){1,256}@(?!sha\d+:|(?:\d+|tty\w+)\.service(?![\w.:-]))(?=[\w\[])",
    re.IGNORECASE,
)
# What lets whoever has an address read what is there: stores send engines to such ones.
_SIGNED = re.compile(r"(?P<front>[?&;](?:[\w-]{0,30}signature|sig|verify)=)[^\s&;\"'\\]+", re.IGNORECASE)
_DIGEST = re.compile(r"sha\d+:|v\d")
_IMAGE = re.compile(r"sha\d+:[0-9a-f]{32}")
_HEADER = re.compile(
    rf"(?P<front>\b(?:(?:proxy-)?authorization|(?:set-)?cookie|bearer|x-registry-config)(?:{_QUOTE})?\s*[:=]\s*|\bbearer\s+)[^\r\n]+",
    re.IGNORECASE,
)
# `key` alone is a word of prose, too, and of logs: a setting's name where it stands like one, with a value of one word.
_BARE_KEY = re.compile(
    rf"(?P<front>(?<![\w.-])key(?:=|{_QUOTE}[ \t]*:[ \t]*)|(?:^[ \t]*(?:-[ \t]+)?|[{{,][ \t]*)key:[ \t]+)"
    rf"(?:{_QUOTED}|[\"'\\][^\n]*|[^\s\"'\\&;,}}\]]+)",
    re.IGNORECASE | re.MULTILINE,
)
_WORD = r"(?<![\w.-])(?P<name>[\w.-]++)"
_LINE = re.compile(r"(?P<indent>[ \t]*(?:-[ \t]+|export[ \t]+)*)[\"']?(?P<name>[\w.-]++)[\"']?[ \t]*[:=]")
_OPTION = re.compile(
    rf"(?<![\w.-])(?P<name>--?[\w.-]++)(?:=|[ \t]+|\n[ \t]*-[ \t]+|(?:{_QUOTE})[ \t]*,\s*(?=\\*[\"']))"
)
_NAMED = re.compile(rf"{_WORD}(?:{_QUOTE}|\])?[ \t]*[:=][ \t]*")
_SPACED = re.compile(rf"{_WORD}(?:{_QUOTE})?[ \t]+(?=[^\s=:])")

# Programs whose options for a password are a letter, with all of their words, over lines that go on.
_PROGRAMS = tuple(
    (
        re.compile(rf"(?<![\w.-])(?P<program>{program})(?![\w-])(?P<words>(?:\\\r?\n|[^\n])*+)"),
        re.compile(rf"(?<=[\s\"'])(?P<front>(?:{option}))(?:{_QUOTED}|[^\s\"']\S*)", re.MULTILINE),
    )
    for program, option in (
        ("login", r"-p[ \t=]*"),
        ("sshpass", r"-p[ \t]*"),
        (r"(?:mysql|mariadb)[\w-]*", "-p"),
        ("redis-cli", r"-a[ \t]*"),
        ("curl", r"(?:-[a-zA-Z]{0,9}[uU]|--user|--proxy-user)[ \t=]*"),
    )
)
_PIPED = re.compile(
    r"(?P<front>\b(?:echo|printf)[ \t]+)[^\n|]{1,400}+(?=\|[^\n]{0,200}(?:--password-stdin|chpasswd))", re.IGNORECASE
)

_TO_NEXT_OPTION = re.compile(rf"{_QUOTED}|[^\n]+?(?=\s-{{1,2}}[a-z]|$)", re.IGNORECASE | re.MULTILINE)
_TO_LINE_END = re.compile(rf"{_QUOTED}|[^\n]+", re.MULTILINE)
_TO_BLANK = re.compile(rf"{_QUOTED}|\S+", re.MULTILINE)

_SHAPE = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|gl[a-z]{2,6}-[\w-]{16,}|dckr_pat_[\w-]{16,}"
    r"|hvs\.[\w-]{16,}|pypi-[\w-]{16,}|sk-[\w-]{20,}|[rs]k_(?:live|test)_\w{10,}|AIza[\w-]{30,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|npm_[A-Za-z0-9]{30,}|xox[a-z]-[\w-]{10,}|A[KS]IA[0-9A-Z]{16}|eyJ[\w-]{6,}(?:\.[\w-]*){2,4})"
    r"|(?<=hooks\.slack\.com/services/)[\w/]+"
)
_SHARE = re.compile(r"(?<=:/)[0-9a-f]{64}(?![0-9a-f])")  # how the guest's sshfs proves that it may be here


def redact(text: str) -> str:
    """The text with private keys, passwords, tokens and the home folder's name masked.

    Goes by names and shapes: a secret without either stays, which the bundle's README says.
    """
    text = _KEY.sub(MASK, text)
    text = _redact_lines(text)
    text = _redact_urls(text)
    text = _PROXY.sub(_redact_proxy, text)
    text = _USER.sub(f"{MASK}@", text)
    text = _SIGNED.sub(rf"\g<front>{MASK}", text)
    text = _PIPED.sub(rf"\g<front>{MASK} ", text)
    for program, option in _PROGRAMS:
        text = program.sub(partial(_redact_program, option), text)
    text = _HEADER.sub(rf"\g<front>{MASK}", text)
    text = _BARE_KEY.sub(rf"\g<front>{MASK}", text)
    text = _redact_values(text, _OPTION, _TO_NEXT_OPTION)
    text = _redact_values(text, _NAMED, _TO_LINE_END)
    text = _redact_values(text, _SPACED, _TO_BLANK, weak=False)
    text = _SHARE.sub(MASK, _SHAPE.sub(MASK, text))
    return text.replace(str(Path.home()), "~") if str(Path.home()) != Path.home().anchor else text


def redact_facts(facts: Any) -> Any:
    """The same for what is to become JSON: there a text's own quotes can still be told from JSON's."""
    if isinstance(facts, str):
        return redact(facts)
    if isinstance(facts, dict):
        return {key: MASK if _is_secret(key, one) else redact_facts(one) for key, one in facts.items()}
    return [redact_facts(one) for one in facts] if isinstance(facts, (list, tuple)) else facts


def _is_secret(key: object, value: object) -> bool:
    if value in (None, "") or isinstance(value, bool):
        return False
    return str(key).lower() == "key" or _is_name(str(key), str(value))


def _is_name(name: str, value: str, *, weak: bool = True) -> bool:
    """Whether what has this name is a secret."""
    if _STRONG.search(name):
        return True
    return weak and _WEAK.search(name) is not None and not (name.lower() == "pwd" and _FOLDER.match(value))


def _redact_values(text: str, front: re.Pattern[str], value: re.Pattern[str], *, weak: bool = True) -> str:
    """Mask what `value` finds right behind `front`, where that names a secret."""
    parts: list[str] = []
    at = 0
    while found := front.search(text, at):
        end = found.end()
        parts.append(text[at:end])
        masked = value.match(text, end) if _is_name(found["name"], text[end : end + 3], weak=weak) else None
        if masked:
            parts.append(MASK)
        at = masked.end() if masked else end
    return "".join([*parts, text[at:]])


def _redact_lines(text: str) -> str:
    """Settings that have a line of their own, with the lines below that are indented more: YAML's long texts."""
    lines = text.split("\n")
    column: int | None = None
    for number, line in enumerate(lines):
        if column is not None and (not line.strip() or _indent(line) > column):
            lines[number] = line[: _indent(line)] + MASK if line.strip() else line
        elif (found := _LINE.match(line)) and _is_name(found["name"], line[found.end() :]):
            column = len(found["indent"])
            lines[number] = f"{found[0]} {MASK}" if line[found.end() :].strip() else line
        else:
            column = None
    return "\n".join(lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _redact_urls(text: str) -> str:
    """URLs without their users. A password may hold `@` and `/`; a path with an `@` behind the host is none."""
    parts: list[str] = []
    at = 0
    while found := _URL.search(text, at):
        user, sign, host = found["rest"].rpartition("@")
        parts.append(text[at : found.start("rest")])
        at = found.start("rest")
        if sign and not _is_path(user, host):
            parts.append(f"{MASK}@")
            at += len(user) + 1
    return "".join([*parts, text[at:]])


def _redact_proxy(found: re.Match[str]) -> str:
    user, _, host = found["rest"].rpartition("@")
    return f"{found['front']}{MASK}@{host}" if ":" in user and "://" not in user else found[0]


def _redact_program(option: re.Pattern[str], found: re.Match[str]) -> str:
    return found["program"] + option.sub(rf"\g<front>{MASK}", found["words"])


def _is_path(before: str, after: str) -> bool:
    """Whether what is before a URL's last `@` is a host with a path, or an image."""
    if "@" not in before and _IMAGE.match(after):
        return True  # docker-image://debian:13.1@sha256:...
    authority = re.split("[/?#]", before, maxsplit=1)[0]
    if authority == before or "@" in authority:
        return False
    _, colon, port = authority.partition(":")
    return not colon or authority.startswith("[") or (port.isdigit() and _DIGEST.match(after) is not None)
