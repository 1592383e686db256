from __future__ import annotations

import json

import pytest

from images.errors import ImageError
from images.firmware import pvh_rom
from images.progress import NullProgress
from images.prune import remove_unneeded

ROM = b"boot program" * 100


@pytest.fixture
def offered(archive, make):
    archive.add("qemu-system-data", files=[make.entry("usr/share/qemu/pvh.bin", ROM)])
    archive.add("other")
    archive.publish(until=None)
    return archive


@pytest.fixture
def have(offered, fetcher, cache, noting):
    def ask():
        return pvh_rom("trixie", "amd64", cache, noting, mirror=offered.mirror, fetcher=fetcher, keys=offered.keys)

    return ask


def test_it_is_fetched_once(have, cache, adapter, noting):
    assert have() == cache / "firmware" / "pvh.bin"
    asked = len(adapter.requests)
    assert have().read_bytes() == ROM
    assert (len(adapter.requests), noting.notes) == (asked, [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "pvh.bin").write_bytes(b""),  # what a power cut leaves
        lambda folder: (folder / "pvh.bin").write_bytes(bytes(len(ROM))),
        lambda folder: (folder / "pvh.bin").unlink(),
        lambda folder: (folder / "pvh.json").write_bytes(b""),
        lambda folder: (folder / "pvh.json").write_text(json.dumps({"sha256": "0" * 64})),
    ],
)
def test_one_that_is_damaged_is_fetched_again(have, noting, damage):
    damage(have().parent)
    assert have().read_bytes() == ROM
    assert noting.notes == ["the stored pvh.bin is damaged and is fetched again"]


def test_one_that_nothing_vouches_for_is_not_taken(have, cache):
    (cache / "firmware").mkdir(parents=True)
    (cache / "firmware" / "pvh.bin").write_bytes(b"whatever")
    assert have().read_bytes() == ROM


def test_a_mirror_that_is_being_updated_is_asked_once_more(have, offered, adapter, make):
    def update():
        offered.stanzas.clear()
        offered.path("pool/qemu-system-data_1.0_amd64.deb").unlink()
        offered.add("qemu-system-data", "1.1", files=[make.entry("usr/share/qemu/pvh.bin", ROM + b"!")])
        offered.publish(until=None)

    adapter.before[".deb"] = update
    assert have().read_bytes() == ROM + b"!"


def test_a_package_without_it(have, offered):
    offered.stanzas.clear()
    offered.add("qemu-system-data", "2.0")
    offered.publish(until=None)
    with pytest.raises(ImageError, match="has no usr/share/qemu/pvh"):
        have()


def test_nothing_is_removed_that_it_is_made_of(have, cache, monkeypatch):
    from images import firmware

    unpack, removed = firmware._unpack, []

    class Impatient(NullProgress):
        def note(self, text):
            raise TimeoutError(text)  # somebody works there

    def prune_first(deb, folder):
        with pytest.raises(TimeoutError, match="firmware"):
            removed.extend(remove_unneeded(cache, set, Impatient(), everything=True))
        unpack(deb, folder)

    monkeypatch.setattr(firmware, "_unpack", prune_first)
    assert have().read_bytes() == ROM
    assert removed == []
