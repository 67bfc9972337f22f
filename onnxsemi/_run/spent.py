"""What work takes: wall time, and CPU time of all threads, whatever else the machine does."""

import time

from msgspec import Struct


class Spent(Struct, frozen=True):
    """Time that work took; of the process so far, an instant.

    Attributes:
        seconds: Wall time.
        cpu_seconds: CPU time of all threads.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def so_far(cls) -> "Spent":
        """This instant: the difference of two is what lies between them."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)
