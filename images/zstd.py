"""zstd wherever this Python has it: its own since 3.14, the same code as a package before."""

from __future__ import annotations

import importlib
from typing import Any

from images.errors import ImageError

MAGIC = b"\x28\xb5\x2f\xfd"


def load_zstd(what: str) -> Any:
    """The module: `decompress`, `ZstdDecompressor`, `ZstdError`.

    :param what: is compressed, for the message.
    :raises ImageError: there is none.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImageError(
        f"{what} is compressed with zstd, which this Python cannot read",
        None,
        "Install it: `pip install backports.zstd`",
    )
