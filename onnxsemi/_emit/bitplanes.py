"""Codes of b bits in exactly b bits: power-of-two bit planes.

1, 3, 5, 6 and 7 bits have no ONNX type, and 2 and 4 have one only in recent opsets. A code is split
into fields whose widths are powers of two, lowest field first:

    1 = 1    2 = 2    3 = 2 + 1    4 = 4    5 = 4 + 1    6 = 4 + 2    7 = 4 + 2 + 1    8 = 8

and each field of all codes goes to one *plane* of bytes. With k = 8 / width codes a byte and
m = n / k bytes, byte i of a plane holds codes i, m + i, 2m + i, ..., lowest bits first, so that one
BitwiseAnd and BitShift against [k, 1] give [k, m], the codes in order.

Codes are padded to a multiple of 8, so every plane has a whole number of bytes.
"""

import numpy as np

from onnxsemi._arrays import UInt8Array

_WIDTHS = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}


def field_widths(bits: int) -> tuple[int, ...]:
    """Widths of the fields of a b-bit code, lowest field first.

    >>> field_widths(7)
    (4, 2, 1)
    """
    return _WIDTHS[bits]


def padded_count(count: int) -> int:
    """The number of codes after padding.

    >>> padded_count(9)
    16
    """
    return -(-count // 8) * 8


def plane_bytes(count: int, bits: int) -> tuple[int, ...]:
    """Bytes of each plane of ``count`` codes.

    >>> plane_bytes(16, 6)
    (8, 4)
    """
    return tuple(padded_count(count) * width // 8 for width in field_widths(bits))


def pack(codes: UInt8Array, bits: int) -> UInt8Array:
    """Codes -> planes, one after the other.

    Args:
        codes: uint8[...], each below 2^bits.
        bits: 1 to 8.

    Returns:
        uint8[sum(plane_bytes)]; for 8 bits the padded codes themselves.
    """
    flat = np.zeros(padded_count(codes.size), np.uint8)
    flat[: codes.size] = codes.ravel()
    planes, below = [], 0
    for width in field_widths(bits):
        planes.append(_plane((flat >> below) & (2**width - 1), width))
        below += width
    return np.concatenate(planes)


def _plane(fields: UInt8Array, width: int) -> UInt8Array:
    """uint8[n] fields -> uint8[n * width / 8] bytes."""
    rows = fields.reshape(8 // width, -1)  # [n] -> [k, m]
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    plane: UInt8Array = np.bitwise_or.reduce(rows << shifts, axis=0).astype(np.uint8)
    return plane
