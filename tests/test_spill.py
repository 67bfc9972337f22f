"""What is kept comes back, from memory and from the file; groups and parts have a bound."""

import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from onnxsemi._model.layer_groups import in_groups
from onnxsemi._rounding import spill as spill_module
from onnxsemi._rounding.spill import ArraySpill
from onnxsemi._runtime.memory import UNBOUNDED


@pytest.mark.parametrize("memory", [0, 100, 10**6])
def test_what_is_kept_comes_back(memory: int) -> None:
    spill, generator = ArraySpill(4 * memory), np.random.default_rng(0)
    arrays = [generator.normal(size=shape).astype(np.float32) for shape in ((3, 4), (5,), (0, 2))]
    arrays.append(arrays[0].T)  # not contiguous
    kept = [spill.keep(array) for array in arrays]
    for array, item in zip(reversed(arrays), reversed(kept), strict=True):
        np.testing.assert_array_equal(item.load(), array)
    assert (
        sum(item.array is not None and item.array.size > 0 for item in kept)
        == {
            0: 0,
            100: 2,  # 48 and 20 bytes
            10**6: 3,
        }[memory]
    )


def test_plenty_is_not_all_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_module, "SPILLED_BYTES", 100)
    spill = ArraySpill(UNBOUNDED)
    assert [spill.keep(np.ones(20, np.float32)).array is None for _ in range(2)] == [False, True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_without_room_for_a_file_all_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    full = partial(Path("/dev/full").open, "r+b", buffering=0)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full())
    array = np.arange(20, dtype=np.float32)
    np.testing.assert_array_equal(ArraySpill(0).keep(array).load(), array)


def test_groups_are_the_items_in_order() -> None:
    sizes = np.random.default_rng(1).integers(1, 12, 50).tolist()
    groups = in_groups(sizes, lambda size: size, limit=10)
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) <= 10 or len(group) == 1 for group in groups)
    assert all(sum(one) + other[0] > 10 for one, other in pairwise(groups))
