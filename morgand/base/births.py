"""When a file was made. Its number is given to another file once it is gone, and a copy has another time of birth."""

from __future__ import annotations

import ctypes
import os
import struct

UNKNOWN = 0
# statx(2), <linux/stat.h>: Python has it from 3.15 on
_OF_DESCRIPTOR, _BIRTH = 0x1000, 0x800  # AT_EMPTY_PATH, STATX_BTIME
_SIZE, _MASK_AT, _BIRTH_AT = 256, 0, 80


def born_ns(descriptor: int) -> int:
    """Of an open file, nanoseconds since 1970; UNKNOWN where the system or the file system does not say."""
    told = getattr(os.fstat(descriptor), "st_birthtime", None)
    if told is not None:
        return int(told * 1e9)
    try:
        statx = ctypes.CDLL(None).statx
    except (AttributeError, OSError, TypeError):  # another system, or a C library that has none
        return UNKNOWN
    found = ctypes.create_string_buffer(_SIZE)
    if statx(descriptor, b"", _OF_DESCRIPTOR, _BIRTH, found) != 0:
        return UNKNOWN
    (mask,) = struct.unpack_from("=I", found, _MASK_AT)
    seconds, nanoseconds = struct.unpack_from("=qI", found, _BIRTH_AT)
    return int(seconds) * 10**9 + int(nanoseconds) if mask & _BIRTH else UNKNOWN
