"""Content, compressed by all processors: the one part of packing that takes time."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from images.erofs.ondisk import BLOCK

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from concurrent.futures import Future

CHUNK = 128 << 10
"""Bytes of content in a cluster: what the kernel reads ahead; half of it makes an image 6 % larger."""

MAX_BLOCKS = CHUNK // BLOCK
_AHEAD = 4  # chunks that wait for a processor, for each of them


def compress_all(chunks: Iterable[bytes], level: int | None) -> Generator[tuple[bytes, bytes | None]]:
    """Each chunk, and its cluster's blocks, or None where they would be as many as the chunk's.

    lz4 works without the interpreter's lock.

    :param level: of lz4hc, 1 to 12; None is lz4 itself, which is quicker and packs worse.
    """
    processors = os.cpu_count() or 1
    with ThreadPoolExecutor(processors, "pack") as pool:
        waiting: deque[tuple[bytes, Future[bytes | None]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(compress, chunk, level)))
            if len(waiting) > processors * _AHEAD:
                raw, done = waiting.popleft()
                yield raw, done.result()
        for raw, done in waiting:
            yield raw, done.result()


def compress(chunk: bytes, level: int | None) -> bytes | None:
    """A cluster: zeros, then lz4's bytes, whole blocks; None if it saves none.

    The zeros come first so that the kernel may decompress in place; no lz4 block begins with one.
    """
    import lz4.block

    if level is None:
        packed: bytes = lz4.block.compress(chunk, store_size=False)
    else:
        packed = lz4.block.compress(chunk, mode="high_compression", compression=level, store_size=False)
    blocks = -(-len(packed) // BLOCK)
    return packed.rjust(blocks * BLOCK, b"\0") if blocks < -(-len(chunk) // BLOCK) else None
