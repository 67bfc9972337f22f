"""Bit planes: exactly b bits a code, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsemi._emit.bitplanes import field_widths, pack, padded_count, plane_bytes

BITS = range(2, 9)


def unpack(packed, bits, count):
    """What the emitted graph computes, in numpy: planes -> codes."""
    ends = np.cumsum(plane_bytes(count, bits))
    codes = np.zeros(padded_count(count), np.uint8)
    below = 0
    for width, plane in zip(field_widths(bits), np.split(packed, ends[:-1]), strict=True):
        shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
        fields = (plane >> shifts) & (2**width - 1)  # [k, m]
        codes |= (fields.ravel() << below).astype(np.uint8)
        below += width
    return codes[:count]


class TestBitPlanes:
    @settings(deadline=None, derandomize=True)
    @given(st.integers(2, 8), st.integers(1, 70), st.integers(0, 2**32 - 1))
    def test_round_trip(self, bits, count, seed):
        codes = np.random.default_rng(seed).integers(0, 2**bits, count).astype(np.uint8)
        packed = pack(codes, bits)
        assert packed.size == sum(plane_bytes(count, bits)) == -(-count // 8) * bits
        assert (unpack(packed, bits, count) == codes).all()

    @pytest.mark.parametrize("bits", BITS)
    def test_fields_are_powers_of_two_and_add_up(self, bits):
        assert sum(field_widths(bits)) == bits
        assert set(field_widths(bits)) <= {1, 2, 4, 8}

    def test_layout_by_hand(self):
        """Eight 3-bit codes: a plane of 2-bit fields (2 bytes), one of 1-bit fields (1 byte)."""
        codes = np.array([0, 1, 2, 3, 4, 5, 6, 7], np.uint8)
        # low fields 0 1 2 3 0 1 2 3: byte 0 holds codes 0, 2, 4, 6, byte 1 codes 1, 3, 5, 7
        low = [0 | 2 << 2 | 0 << 4 | 2 << 6, 1 | 3 << 2 | 1 << 4 | 3 << 6]
        assert pack(codes, 3).tolist() == [*low, 0b11110000]
