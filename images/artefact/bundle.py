"""Everything that a site without a network needs, in one file: a tar in zstd, written and read in one pass.

    bundle.json · bundle.json.minisig · wheels/NAME.whl … · images/DIGEST/… · base/KEY/… · emulators/KEY/… · firmware/…

bundle.json lists every member behind it with its size and sha256, in the order in which they come. So whoever signs it
signs all of it, nothing that it does not list is accepted, and what a member is called decides where it goes: one of
five kinds of place in the cache, never a path of the sender's choice. The wheels come first and under their own names,
since they are wanted where there is no hostvm yet: `zstd -dc FILE | tar -x wheels`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from images.artefact.layout import SMALL, Blob, parse_manifest, parts_of, refused
from images.artefact.minisign import MOST, MOST_BYTES
from images.artefact.stream import BLOCK, TarReader, header, open_zstd, packer, padding
from images.base_stored import is_sound_base, read_base
from images.disk import CHUNK, replace_folder, require_space, sha256_file, temporary_folder, work_lock
from images.emulators import changed_emulators, read_emulators
from images.errors import HashError, ImageError
from images.firmware import FIRMWARE, PVH_FACTS, PVH_ROM, is_sound_firmware, keep_firmware, stored_firmware
from images.records import MOST_SIGNATURES, add_record, read_record
from images.store import MANIFEST, PARTS, store_image, verify_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from images.artefact.minisign import SecretKey
    from images.artefact.trust import KeyRing, Verdict
    from images.progress import Progress
    from images.store import Image

FORMAT = 1
INDEX, SIGNATURES = "bundle.json", "bundle.json.minisig"
WHEELS = "wheels"
_HASH = r"[0-9a-f]{64}"
_WHEEL = rf"{WHEELS}/[A-Za-z0-9_.+!\-]{{1,200}}\.whl"
# The only names there are; each is also where it goes in the cache.
_NAMES = re.compile(
    rf"{_WHEEL}|images/{_HASH}/({'|'.join(map(re.escape, (*PARTS, MANIFEST)))})"
    rf"|base/{_HASH}/(image\.tar|manifest\.json)|emulators/[a-z0-9]+-{_HASH}/([a-z0-9]+\.gz|manifest\.json)"
    rf"|{FIRMWARE}/({re.escape(PVH_ROM)}|{re.escape(PVH_FACTS)})"
)
_MOST_MEMBERS = 10_000
_AGAIN = "Try again: `hostvm bundle create`"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle.

    :param name: see the module's text.
    :param sha256: hex.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds.

    :param signatures: of guest images, by digest.
    :param notes: for people: what was asked for.
    """

    members: tuple[Member, ...]
    signatures: Mapping[str, Sequence[str]]
    notes: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members)

    def units(self, kind: str) -> list[str]:
        """The names of all of a kind: wheels, firmware, or the folders of images, base, emulators; sorted."""
        found = {member.name.split("/")[1] for member in self.members if member.name.startswith(f"{kind}/")}
        return sorted(found)

    def encoded(self) -> bytes:
        """The same bundle gives the same bytes."""
        facts = {
            "format": FORMAT,
            "members": [[member.name, member.size, member.sha256] for member in self.members],
            "signatures": {digest: list(texts) for digest, texts in self.signatures.items()},
            "notes": dict(self.notes),
        }
        return json.dumps(facts, sort_keys=True, indent=1).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was stored, and who vouched for it."""

    bundle: Bundle
    verdict: Verdict


def describe_bundle(
    images: Iterable[Image], folders: Iterable[Path], wheels: Iterable[Path], cache: Path, notes: Mapping[str, Any]
) -> tuple[Bundle, dict[str, Path]]:
    """A bundle of these things and the firmware that the QEMU of this computer lacked, and where each member lies now.

    Whoever holds the lock `OUTGOING` of images until it is written keeps a prune from them.

    :param folders: of base images and emulators, in the cache.
    :raises ImageError: a file has a name that no bundle has, or what is stored is damaged, or was removed meanwhile.
    """
    folders = list(folders)
    for folder in folders:
        _require_sound(folder, cache)
    sources: dict[str, Path] = {f"{WHEELS}/{path.name}": path for path in sorted(wheels)}
    signatures = {}
    for image in images:
        if not image.path.is_dir():
            raise ImageError(f"image {image.digest[:12]} was removed meanwhile", None, _AGAIN)
        verify_image(image)
        sources |= {f"images/{image.digest}/{name}": image.path / name for name in (MANIFEST, *PARTS)}
        signatures[image.digest] = read_record(cache, image.digest).signatures
    for folder in folders:
        kind = "base" if _is_base(folder, cache) else folder.parent.name
        sources |= {f"{kind}/{folder.name}/{path.name}": path for path in sorted(folder.iterdir())}
    sources |= {f"{FIRMWARE}/{path.name}": path for path in stored_firmware(cache)}
    for name, path in sources.items():
        if not _NAMES.fullmatch(name):
            raise ImageError(f"{path} cannot be in a bundle", f"its name is {name!r}", "Leave it out, or rename it")
    return Bundle(tuple(_member(name, path) for name, path in sources.items()), signatures, notes), sources


def _member(name: str, path: Path) -> Member:
    try:
        return Member(name, path.stat().st_size, sha256_file(path))
    except OSError as error:  # `image rm` waits for nobody
        raise _changed(path, str(error)) from error


def _is_base(folder: Path, cache: Path) -> bool:
    return folder.parent.parent == cache / "base"


def _require_sound(folder: Path, cache: Path) -> None:
    if _is_base(folder, cache) and not is_sound_base(folder):
        raise HashError(
            f"base image {folder.name[:12]} is damaged",
            f"{folder} holds another image than its manifest says.",
            "Type `hostvm bundle create` again: it is made anew",
        )
    if changed := changed_emulators(folder):
        raise HashError(
            f"the emulator of {', '.join(changed)} is damaged",
            f"{folder} has other programs than its manifest says.",
            "Delete that folder, then `hostvm bundle create` again: it is fetched when it is wanted",
        )


def write_bundle(
    bundle: Bundle, sources: Mapping[str, Path], target: IO[bytes], progress: Progress, key: SecretKey | None
) -> None:
    """Write a bundle; each file is checked as it is read.

    :raises HashError: a file is another one by now; what was written is worthless.
    :raises OSError: the stream's own, e.g. no space.
    """
    pack = packer()
    index = bundle.encoded()
    seal = key.sign(index, "hostvm bundle").encode() if key is not None else b""

    def put(data: bytes) -> None:
        target.write(pack.compress(data))

    for name, data in ((INDEX, index), (SIGNATURES, seal)):
        put(header(name, len(data)) + data + padding(len(data)))
    with progress.task("writing the bundle", bundle.size, "B") as task:
        for member in bundle.members:
            put(header(member.name, member.size))
            for chunk in _checked(member, sources[member.name]):
                put(chunk)
                task.advance(len(chunk))
            put(padding(member.size))
    put(bytes(2 * BLOCK))
    target.write(pack.flush())


def _checked(member: Member, path: Path) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
    except OSError as error:  # or it would count as one of the place that is written to
        raise _changed(path, str(error)) from error
    if (digest.hexdigest(), size) != (member.sha256, member.size):
        raise _changed(path, "It is not what it was a moment ago.")


def _changed(path: Path, why: str) -> HashError:
    return HashError(f"{path} was changed", why, _AGAIN)


def load_bundle(
    source: IO[bytes], where: str, cache: Path, ring: KeyRing, progress: Progress, *, allow_unsigned: bool = False
) -> Loaded:
    """Read a bundle to its end, then store what it holds; who signed it is decided before its members are read.

    :param where: the file's name, for messages.
    :raises SignatureError: see `KeyRing.judge`.
    :raises ImageError: no bundle, cut short, changed, with anything in it that is not listed, or with an image or
        emulators that are not whole; nothing is stored.
    :raises DiskFullError: no space.
    """
    images = cache / "images"
    with open_zstd(source, where) as stream:
        # Before the lock: who writes it may have to make an image first.
        tar = TarReader(stream, where)
        index = tar.expect(INDEX, SMALL)
        seal = tar.expect(SIGNATURES, MOST_BYTES).decode("utf-8", "replace")
        bundle = parse_bundle(index, where)
        verdict = ring.judge(index, [seal] if seal else [], allow_unsigned=allow_unsigned)
        with work_lock(images, progress), temporary_folder(images) as work:
            require_space(work, bundle.size)
            with progress.task("reading the bundle", bundle.size, "B") as task:
                for member in bundle.members:
                    place = work / member.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    tar.save(member.name, Blob(member.sha256, member.size, "", member.name), place, task.advance)
            tar.end()
            _check_units(bundle, work, where)
            _store(bundle, work, cache, progress)
    return Loaded(bundle, verdict)


def parse_bundle(data: bytes, where: str) -> Bundle:
    """Read bundle.json.

    :raises ImageError: it is none, or names what no bundle holds.
    """
    try:
        facts = json.loads(data)
        if facts["format"] != FORMAT:
            raise refused(where, f"its format is {facts['format']!r}, this hostvm reads {FORMAT}"[:200])
        members = tuple(Member(str(name), int(size), str(digest)) for name, size, digest in facts["members"])
        signatures = {str(digest): tuple(map(str, texts)) for digest, texts in facts["signatures"].items()}
        "".join(text for texts in signatures.values() for text in texts).encode()  # JSON can name halves of characters
        notes = dict(facts["notes"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise refused(where, f"its index cannot be read: {error!r}"[:200]) from error
    names = [member.name for member in members]
    if len(set(names)) != len(names) or len(names) > _MOST_MEMBERS:
        raise refused(where, "its index lists a file twice, or far too many")
    for digest, texts in signatures.items():
        if len(texts) > MOST_SIGNATURES or any(len(text) > MOST for text in texts):
            raise refused(where, f"image {digest[:12]} has more than {MOST_SIGNATURES} signatures, or one far too long")
    for member in members:
        if not _NAMES.fullmatch(member.name) or member.size < 0 or not re.fullmatch(_HASH, member.sha256):
            raise refused(where, f"its index lists {member.name!r}, which is in no bundle"[:200])
    return Bundle(members, signatures, notes)


def _check_units(bundle: Bundle, work: Path, where: str) -> None:
    """Each guest image is whole and agrees with its own manifest, whose hash is its name; so do the other things."""
    by_name = {member.name: member for member in bundle.members}
    for digest in bundle.units("images"):
        own = by_name.get(f"images/{digest}/{MANIFEST}")
        if own is None or own.sha256 != digest or own.size > SMALL:
            raise refused(where, f"image {digest[:12]} has no manifest of that digest")
        for name, promised in parts_of(parse_manifest((work / own.name).read_bytes(), where)).items():
            part = by_name.get(f"images/{digest}/{name}")
            if part is None or promised != (part.sha256, part.size):
                raise refused(where, f"image {digest[:12]} has another {name} than its manifest says")
    for unit in bundle.units("base"):
        if read_base(work / "base" / unit) is None:
            raise refused(where, f"base image {unit[:12]} lacks its image.tar, or a manifest that can be read")
        if not is_sound_base(work / "base" / unit):
            raise refused(where, f"base image {unit[:12]} is not what its manifest says")
    for unit in bundle.units("emulators"):
        folder = work / "emulators" / unit
        if read_emulators(folder) is None:
            raise refused(where, f"emulators {unit[:24]} lack a program, or a manifest that can be read")
        if changed := changed_emulators(folder):
            raise refused(where, f"the emulator of {', '.join(changed)} is not what its manifest says")
    if bundle.units(FIRMWARE) and not is_sound_firmware(work / FIRMWARE):
        raise refused(where, f"its {PVH_ROM} is not what its {PVH_FACTS} says")


def _store(bundle: Bundle, work: Path, cache: Path, progress: Progress) -> None:
    """All is read and checked: move each thing to its place, where what is there already and whole stays."""
    for digest in bundle.units("images"):
        folder = work / "images" / digest
        store_image(folder, json.loads((folder / MANIFEST).read_bytes()), cache)
        add_record(cache, digest, signatures=tuple(bundle.signatures.get(digest, ())))
    for kind, parent, is_sound in (
        ("base", cache / "base" / "sha256", is_sound_base),
        ("emulators", cache / "emulators", _are_sound_emulators),
    ):
        if units := bundle.units(kind):
            with work_lock(cache / kind, progress):
                for unit in units:
                    if not is_sound(parent / unit):
                        replace_folder(work / kind / unit, parent / unit)
    if bundle.units(FIRMWARE):
        keep_firmware(work / FIRMWARE, cache, progress)
    for name in bundle.units(WHEELS):
        (cache / WHEELS).mkdir(parents=True, exist_ok=True)
        (work / WHEELS / name).replace(cache / WHEELS / name)


def _are_sound_emulators(folder: Path) -> bool:
    return read_emulators(folder) is not None and not changed_emulators(folder)
