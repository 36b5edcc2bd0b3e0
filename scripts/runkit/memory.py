"""How this process gets its memory from the operating system."""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of malloc.h
KEPT = 2**31 - 1  # bytes of freed memory that stay with the process
LARGE = 2**25  # bytes from which an allocation is returned as it is freed: replay buffers, say


def keep_freed_memory() -> None:
    """Has the C library keep what is freed, for the next allocation.

    Left alone, it returns the end of its heap as soon as it is free. The maps of a convolutional
    network go there in every update, and come back page by page, zeroed: an update of the Nature
    CNN with 32 pictures takes 1.5 times as long (1.9 in bfloat16). Does nothing where the C
    library is not glibc.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE)
