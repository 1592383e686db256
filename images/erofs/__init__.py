"""Writing an erofs, the read-only file system of a guest's root, without a guest and without tools of the computer."""

from images.erofs.stored import FormerRoot, Place, Stored
from images.erofs.writer import packed_by, write_erofs

__all__ = ["FormerRoot", "Place", "Stored", "packed_by", "write_erofs"]
