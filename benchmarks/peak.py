"""Peak memory of this process."""

from pathlib import Path


def peak_bytes() -> int:
    """Peak resident bytes (Linux). ``ru_maxrss`` can begin at the peak of the parent process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
