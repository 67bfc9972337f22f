"""How much memory may be used: parsed from what the user says, or half of what is free."""

import ctypes
import os
import re
import sys
from functools import cache
from pathlib import Path

import psutil

from onnxsemi._errors import SettingsError

UNBOUNDED = sys.maxsize
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_ of malloc.h
_LARGEST_KEPT = 32 * 2**20  # where glibc's own threshold ends
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_memory(text: str) -> int:
    """Bytes from a number with a unit.

    >>> parse_memory("1.5GB"), parse_memory("512 MiB")
    (1610612736, 536870912)

    Raises:
        SettingsError: If the text has another form.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if not match:
        raise SettingsError(f"`max_memory`: {text!r} is no size such as 2GB or 512MB")
    return int(float(match[1]) * _UNITS[match[2]])


def default_memory() -> int:
    """What this process holds and half of what is free, in bytes."""
    return resident() + int(psutil.virtual_memory().available) // 2


def resident() -> int:
    """Bytes that this process holds in memory, once what it has freed is given back."""
    give_back()
    return held()


def held() -> int:
    """Bytes that this process holds in memory, what it has freed and may use again included."""
    return int(_process(os.getpid()).memory_info().rss)


def peak() -> int:
    """The most bytes that this process has held in memory.

    On Linux from the kernel's high-water mark, as ``ru_maxrss`` can begin at that of the parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 2**10 for line in lines if line.startswith("VmHWM"))
    info = _process(os.getpid()).memory_info()
    return int(getattr(info, "peak_wset", info.rss))  # Windows; elsewhere what it holds now


def give_back() -> None:
    """Make glibc return what it keeps of freed memory: 0.3 GB, measured on a ResNet-50.

    Does nothing with another C library.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def share_heap() -> None:
    """Make glibc serve all threads from one heap; to be called before they are started.

    A heap of a thread keeps up to 64 MB that were freed, and ``give_back`` does not reach them: 40
    to 60 MB of 250, measured by ``tests/test_memory_bound.py``'s model with two threads, at no CPU
    time. Does nothing with another C library.
    """
    if sys.platform == "linux":
        option = getattr(ctypes.CDLL(None), "mallopt", None)
        if option is not None:
            option(_ARENA_MAX, 1)


def keep_heap() -> None:
    """Make glibc keep freed memory for the next array, as it does in a process that runs long.

    Dask's nanny tells it to give back all beyond 64 kB: then every array larger than 128 kB is
    mapped anew, page by page. Does nothing with another C library.
    """
    if sys.platform == "linux":
        option = getattr(ctypes.CDLL(None), "mallopt", None)
        if option is not None:
            option(_MMAP_THRESHOLD, _LARGEST_KEPT)
            option(_TRIM_THRESHOLD, 2 * _LARGEST_KEPT)


@cache
def _process(number: int) -> psutil.Process:
    """A process; to find it anew costs more than to look at its memory."""
    return psutil.Process(number)
