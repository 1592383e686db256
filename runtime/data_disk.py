"""The check that every engine begins with."""

from __future__ import annotations

from hostvm.checks import Check

DATA_DISK = Check(
    "data disk",
    ("mountpoint", "-q", "/var"),
    "the data disk is not mounted; its messages are in: hostvm logs --console",
)
