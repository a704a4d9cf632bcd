"""Keep memory that torch frees on the CPU in the process, for the next layer's tensors of the same size.

glibc requests blocks above 32 MB from the system each time, which provides them page by page, zeroed: that takes a
tenth of a batch's time and more. On CUDA torch keeps freed memory by itself.
"""

from __future__ import annotations

import ctypes
import platform

# mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1


def keep_freed_memory() -> None:
    """Keep freed memory in the whole process. Does nothing if the C library is not glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
