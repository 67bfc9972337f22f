"""What of a model stays float32, in a line each."""

from collections.abc import Sequence

from onnxsemi._model.float_parts import LEAST_NAMED, FloatWeights

_SHOWN = 5
"""Layers that are named; the others in one line."""


def float_lines(left: Sequence[FloatWeights], file_bytes: int) -> list[str]:
    """All that has bytes.

    Args:
        left: What stays float32, largest first.
        file_bytes: Bytes of the float32 model.
    """
    kept = [weights for weights in left if weights.bytes]
    lines = [
        f"Stays float32: {weights.name}, {weights.bytes:,} bytes "
        f"({weights.bytes / file_bytes:.1%}): {weights.reason}."
        for weights in kept[:_SHOWN]
    ]
    more = kept[_SHOWN:]
    if more:
        total = sum(weights.bytes for weights in more)
        lines.append(f"Stays float32: {len(more)} others, {total:,} bytes; see 'inspect'.")
    return lines


def large(left: Sequence[FloatWeights], file_bytes: int) -> list[FloatWeights]:
    """The layers that hold more than a hundredth of the file; not the rest at the end."""
    return [weights for weights in left[:-1] if weights.bytes > LEAST_NAMED * file_bytes]
