"""Small pictures as PNG in a data URI (PNG specification, second edition: 8 bits, no filter)."""

import base64
import struct
import zlib

import numpy as np

from onnxsemi._arrays import UInt8Array

_KINDS = {1: 0, 3: 2}  # samples a pixel -> PNG colour type: grey, RGB


def data_uri(pixels: UInt8Array) -> str:
    """A picture, uint8[H, W, 1 or 3], as ``data:image/png;base64,...``."""
    height, width, samples = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _KINDS[samples], 0, 0, 0)
    rows = np.zeros((height, 1 + width * samples), np.uint8)  # each begins with filter type 0
    rows[:, 1:] = pixels.reshape(height, -1)
    chunks = (_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)))
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(whole).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
