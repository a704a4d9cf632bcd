"""Memory of the CPU: kept in the process for the next layer's tensors, and recognised when there is none left.

glibc requests blocks above 32 MB from the system each time, which provides them page by page, zeroed: that takes a
tenth of a batch's time and more. On CUDA torch keeps freed memory by itself.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1


def keep_freed_memory() -> None:
    """Keep freed memory in the whole process. Does nothing if the C library is not glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)


@contextmanager
def report_no_memory() -> Iterator[None]:
    """Turn a failed allocation on the CPU inside the context into torch's OutOfMemoryError, as on a GPU."""
    try:
        yield
    except MemoryError as error:
        raise torch.OutOfMemoryError(str(error)) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise torch.OutOfMemoryError(str(error)) from error
