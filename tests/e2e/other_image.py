"""Guest images that differ from a stored one by what their first program does."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from images.cpio import CpioEntry, write_cpio
from images.store import manifest_bytes

HANDS_OVER = "exec /bin/busybox switch_root"


def make_image(digest: str, name: str, step: str) -> Path:
    """A stored image like another one, whose first program takes one step more before it hands over."""
    there = Path(os.environ["HOSTVM_CACHE"], "images", "sha256", digest.removeprefix("sha256:"))
    manifest = json.loads((there / "manifest.json").read_text())
    init = Path(__file__).parents[2] / "images" / "files" / "initramfs" / "init"
    text = init.read_text().replace(HANDS_OVER, f"{step}\n{HANDS_OVER}")
    old = (there / "initramfs").read_bytes()
    new = old + bytes(-len(old) % 4) + write_cpio([CpioEntry.file("init", text.encode(), 0o755)])
    part = {"sha256": hashlib.sha256(new).hexdigest(), "size": len(new)}
    manifest |= {"name": name, "recipe": name, "files": {**manifest["files"], "initramfs": part}}
    data = manifest_bytes(manifest)
    folder = there.parent / hashlib.sha256(data).hexdigest()
    folder.mkdir()
    (folder / "manifest.json").write_bytes(data)
    (folder / "initramfs").write_bytes(new)
    for file in ("vmlinuz", "root.erofs"):
        os.link(there / file, folder / file)
    return folder
