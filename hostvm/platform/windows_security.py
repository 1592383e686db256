"""Windows' access lists: a pipe, a folder or a file for this user and the system. Windows only."""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"  # tells mypy too, which then checks the rest for Windows only

_TOKEN_QUERY = 0x0008
_TOKEN_USER = 1
_REVISION = 1
_DACL, _PROTECTED_DACL = 0x4, 0x80000000
_INHERITED = "OICI"

_advapi = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.GetCurrentProcess.restype = wintypes.HANDLE
_kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
_kernel.LocalFree.argtypes = (ctypes.c_void_p,)
_advapi.OpenProcessToken.argtypes = (wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE))
_advapi.GetTokenInformation.argtypes = (
    *(wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD),
    ctypes.POINTER(wintypes.DWORD),
)
_advapi.ConvertSidToStringSidW.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
_advapi.ConvertStringSecurityDescriptorToSecurityDescriptorW.argtypes = (
    *(wintypes.LPCWSTR, wintypes.DWORD),
    *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p),
)
_advapi.SetFileSecurityW.argtypes = (wintypes.LPCWSTR, wintypes.DWORD, ctypes.c_void_p)


class _Attributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (("length", wintypes.DWORD), ("descriptor", ctypes.c_void_p), ("inherit", wintypes.BOOL))


class OnlyThisUser:
    """A security descriptor that lets this user and the system in, and nobody else.

    :param inherited: what lies in a folder with it gets the same.
    :raises OSError: Windows refuses.
    """

    def __init__(self, *, inherited: bool = False) -> None:
        flags = _INHERITED if inherited else ""
        # P: nothing is inherited from above; GA: everything, that is for pipes and for files what their owner needs.
        text = f"D:P(A;{flags};GA;;;{user_sid()})(A;{flags};GA;;;SY)"
        self._descriptor = ctypes.c_void_p()
        _check(
            _advapi.ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text, _REVISION, ctypes.byref(self._descriptor), None
            )
        )
        self._attributes = _Attributes(ctypes.sizeof(_Attributes), self._descriptor, 0)

    @property
    def attributes(self) -> int:
        """The address of a SECURITY_ATTRIBUTES; valid until `close`."""
        return ctypes.addressof(self._attributes)

    def apply_to(self, path: str) -> None:
        """Give it to a file or folder.

        :raises OSError: Windows refuses.
        """
        _check(_advapi.SetFileSecurityW(path, _DACL | _PROTECTED_DACL, self._descriptor))

    def close(self) -> None:
        """Free it. Idempotent."""
        if self._descriptor.value:
            _kernel.LocalFree(self._descriptor)
            self._descriptor = ctypes.c_void_p()


def make_private(folder: str) -> None:
    """Keep everybody but this user and the system out of a folder and what is made in it.

    :raises OSError: Windows refuses.
    """
    descriptor = OnlyThisUser(inherited=True)
    try:
        descriptor.apply_to(folder)
    finally:
        descriptor.close()


def user_sid() -> str:
    """Who runs this process, as `S-1-5-...`.

    :raises OSError: Windows does not say.
    """
    token = wintypes.HANDLE()
    _check(_advapi.OpenProcessToken(_kernel.GetCurrentProcess(), _TOKEN_QUERY, ctypes.byref(token)))
    try:
        size = wintypes.DWORD()
        _advapi.GetTokenInformation(token, _TOKEN_USER, None, 0, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        _check(_advapi.GetTokenInformation(token, _TOKEN_USER, buffer, size, ctypes.byref(size)))
    finally:
        _kernel.CloseHandle(token)
    # TOKEN_USER begins with the SID's address.
    sid = ctypes.c_void_p.from_buffer(buffer)
    text = ctypes.c_void_p()
    _check(_advapi.ConvertSidToStringSidW(sid, ctypes.byref(text)))
    try:
        return ctypes.wstring_at(text.value or 0)
    finally:
        _kernel.LocalFree(text)


def _check(result: int) -> None:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
