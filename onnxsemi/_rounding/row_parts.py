"""Work on the rows of a large matrix, part by part: side by side where there are threads.

Every part by one thread, so that it does not matter how many there are.
"""

from collections.abc import Callable, Iterable

from onnxsemi._runtime.batch_sizes import PART_ROWS

Each = Callable[[Callable[[slice], None], Iterable[slice]], Iterable[None]]
"""``map``, or that of a pool: whose threads must not call it, as they would wait for themselves."""


def in_parts(count: int, work: Callable[[slice], None], each: Each = map) -> None:
    """Work on ``count`` rows, ``PART_ROWS`` at a time."""
    parts = [slice(start, start + PART_ROWS) for start in range(0, count, PART_ROWS)]
    for _ in (each if len(parts) > 1 else map)(work, parts):
        pass
