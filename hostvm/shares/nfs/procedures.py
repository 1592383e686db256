"""NFS's procedures: which of them answers a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.shares.events import HELPER_GROUP
from hostvm.shares.nfs.attributes import Attributes
from hostvm.shares.nfs.contents import Contents
from hostvm.shares.nfs.folders import Folders
from hostvm.shares.nfs.handles import Handles
from hostvm.shares.nfs.making import Making
from hostvm.shares.nfs.systems import Systems
from hostvm.shares.nfs.taking import Taking

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.lasting import Lasting
    from hostvm.shares.nfs.rpc import Call
    from hostvm.shares.nfs.xdr import Reader


class Procedures:
    """One call after the other, never two at once.

    :param find_export: the share whose handles begin with this; raises KeyError.
    :param sweep_soon: has what stays open closed after a while.
    """

    def __init__(
        self, find_export: Callable[[bytes], Export], lasting: Lasting, sweep_soon: Callable[[], None]
    ) -> None:
        self.handles = Handles(find_export)
        self.folders = Folders(self.handles)
        contents = Contents(self.handles, lasting, sweep_soon)
        self.table: dict[int, Callable[[Call, Reader], bytes]] = {
            **contents.table,
            **Attributes(self.handles, contents).table,
            **Making(self.handles, contents, lasting, sweep_soon).table,
            **Taking(self.handles, lasting).table,
            **self.folders.table,
            **Systems(self.handles).table,
        }

    def answer(self, call: Call) -> bytes:
        """The answer, its status first.

        :raises RefusedError, OSError, ValueError, OverflowError: why it is refused.
        :raises Later: it follows when the file is on the disk.
        """
        self.handles.told_by_us = HELPER_GROUP in call.groups
        try:
            return self.table[call.procedure](call, call.arguments)
        finally:
            self.handles.let_go()
