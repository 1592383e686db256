"""A suite's (In)Release file: what the signature covers, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from images.errors import MirrorError, OutOfDateError, SignatureError

# apt tolerates seconds; a laptop that woke with a wrong clock deserves a day before it is told.
CLOCK_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One line of Release's SHA256 section."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Release:
    """The parts of a Release file that matter here."""

    names: frozenset[str]
    date: datetime
    valid_until: datetime | None
    by_hash: bool
    files: dict[str, IndexFile]

    def index(self, arch: str) -> IndexFile:
        """The main component's package index of an architecture.

        :raises MirrorError: the suite has none.
        """
        path = f"main/binary-{arch}/Packages.xz"
        try:
            return self.files[path]
        except KeyError:
            raise MirrorError(
                f"suite {'/'.join(sorted(self.names))} has no packages for {arch}",
                f"Its Release file lists no {path}.",
                "Choose another with `hostvm image build --suite trixie --arch amd64`",
            ) from None


def parse_release(text: str) -> Release:
    """Read a Release file's fields and its SHA256 list.

    :raises MirrorError: it cannot be read.
    """
    fields: dict[str, str] = {}
    files: dict[str, IndexFile] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith(" "):
            if section == "SHA256":
                try:
                    digest, size, path = line.split()
                    files[path] = IndexFile(path, int(size), digest)
                except ValueError as error:
                    raise _unreadable(f"{line.strip()[:200]!r} in its list of hashes") from error
        else:
            section, _, value = line.partition(":")
            fields[section] = value.strip()
    until = fields.get("Valid-Until")
    return Release(
        names=frozenset(fields[key] for key in ("Suite", "Codename") if key in fields),
        date=_date(fields.get("Date", "")),
        valid_until=_date(until) if until else None,
        by_hash=fields.get("Acquire-By-Hash") == "yes",
        files=files,
    )


def check_release(release: Release, suite: str, what: str, now: datetime) -> None:
    """Refuse a Release of another suite, one past its date, and one from the future.

    :raises SignatureError: any of those: a signature alone does not say what it was made for.
    """
    if suite not in release.names:
        raise SignatureError(
            f"{what} is signed, but for another suite",
            f"Asked for {suite}, it names {', '.join(sorted(release.names)) or 'none'}.",
            "Try another mirror, e.g. `hostvm image build --mirror http://deb.debian.org/debian`",
        )
    if release.valid_until is not None and release.valid_until < now:
        raise OutOfDateError(
            f"{what} is out of date",
            f"Its signature was valid until {release.valid_until:%Y-%m-%d %H:%M} UTC; now is {now:%Y-%m-%d %H:%M} UTC.",
            "Check the clock with `date -u`; if it is right the mirror is stale: "
            "`hostvm image build --mirror http://deb.debian.org/debian`",
        )
    if release.date > now + CLOCK_TOLERANCE:
        raise SignatureError(
            f"{what} comes from the future",
            f"It was made {release.date:%Y-%m-%d %H:%M} UTC; now is {now:%Y-%m-%d %H:%M} UTC.",
            "Set this computer's clock, check it with `date -u`, and try again",
        )


def _date(value: str) -> datetime:
    try:
        parsed = parsedate_to_datetime(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError, TypeError) as error:
        raise _unreadable(f"Date {value[:200]!r}: {error}") from error


def _unreadable(why: str) -> MirrorError:
    return MirrorError(
        "the archive's Release file cannot be read",
        why,
        "Try another mirror, e.g. `hostvm image build --mirror http://deb.debian.org/debian`",
    )
