"""The accelerator probe with real boots."""

from __future__ import annotations

import time

import pytest

from hostvm.accel import probe as probing
from hostvm.accel import select_accel
from hostvm.drivers.qemu import hardware
from hostvm.guest_images import guest_arch
from hostvm.qemu_binary import find_qemu
from images.progress import NullProgress

pytestmark = pytest.mark.vm


class Notes(NullProgress):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture
def qemu():
    return find_qemu(guest_arch())


def test_a_kernel_reaches_user_space_under_emulation(qemu, image, monkeypatch):
    """The slow one, so that the probe's program is proved wherever the tests run."""
    monkeypatch.setattr(probing, "PROBE_TIMEOUT", 90.0)
    assert probing.probe("tcg", qemu, image.kernel) is None


def test_an_accelerator_that_qemu_does_not_have_fails_at_once(qemu, image):
    began = time.monotonic()
    assert "QEMU ended with status 1" in (probing.probe("xen", qemu, image.kernel) or "")
    assert time.monotonic() - began < 5


def test_a_kernel_that_hangs_is_given_up(qemu, image, monkeypatch):
    monkeypatch.setattr(probing, "PROBE_TIMEOUT", 1.0)
    monkeypatch.setattr(hardware, "with_parameters", lambda *_: "rdinit=/none console=none panic=0")
    assert probing.probe("tcg", qemu, image.kernel) == "a kernel did not come up within 1 s"


def test_the_choice_is_right_told_once_and_kept(qemu, image, tmp_path):
    """Whatever this computer has: a native accelerator that works, or one note and emulation."""

    def choose():
        notes = Notes()
        began = time.monotonic()
        found = select_accel("auto", qemu=qemu, kernel=image.kernel, cache_dir=tmp_path, progress=notes)
        return found, notes.lines, time.monotonic() - began

    first, notes, took = choose()
    assert first in {"kvm", "hvf", "whpx", "tcg"}
    assert len(notes) == (1 if first == "tcg" else 0)
    assert took < probing.PROBE_TIMEOUT + 5
    again, notes, took = choose()
    assert (again, notes) == (first, [])
    assert took < 0.5
