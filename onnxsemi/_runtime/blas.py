"""Linear algebra on one thread a call: several run side by side instead.

The sums of a product of matrices depend on how many threads share it; results may not.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep numpy's and scipy's linear algebra on the calling thread."""
    import scipy.linalg  # noqa: F401, PLC0415  what is not loaded yet is not limited

    with threadpool_limits(1, user_api="blas"):
        yield


def limit_to_one_thread() -> None:
    """The same for good, for all threads of this process."""
    import scipy.linalg  # noqa: F401, PLC0415  what is not loaded yet is not limited

    threadpool_limits(1, user_api="blas")
