"""Very wide layers, their columns cut into panels that are worked on like groups.

The second moments of K columns take 4 K^2 bytes and their factor ten times as much: 25 GB for the
first matrix product of a VGG-16, K = 25,088. Beyond ``WIDEST`` the columns of a group are cut into
as few panels as can be, one like the other:

    count = ceil(K / WIDEST),     width = ceil(K / count)

Between panels the covariance of the inputs counts as 0: what a weight loses, those of its own
panel make up for, and the errors of a row's panels add up. Up to count - 1 columns that are always
0, with weights of 0, fill the last panel; no output sees them.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array

WIDEST = 6144
"""Columns that are worked on together. Their factor takes 1.5 GB while it is found; the widest
layers of ResNets (4,608 columns) and of vision transformers (5,120) are not cut."""

_Array = TypeVar("_Array", Float32Array, Float64Array)


@dataclass(frozen=True)
class Panels:
    """How the columns of a layer are cut: P = groups * count panels, group after group.

    Attributes:
        groups: Groups of the layer, G.
        size: Columns of a group, K: weights of one output channel.
        count: Panels of a group.
    """

    groups: int
    size: int
    count: int

    @classmethod
    def of(cls, groups: int, size: int) -> "Panels":
        """As few as can be.

        >>> panels = Panels.of(1, 25088)
        >>> panels.count, panels.width
        (5, 5018)
        """
        return cls(groups, size, -(-size // WIDEST))

    @property
    def width(self) -> int:
        """Columns of a panel, k."""
        return -(-self.size // self.count)

    def __len__(self) -> int:
        """Number of panels, P."""
        return self.groups * self.count

    def rows(self, values: _Array) -> _Array:
        """Values of each column of each channel, [O, K], as [P * O/G, k]: panel after panel."""
        if self.count == 1:
            return values
        filled = self._filled(values, axis=1)
        split = filled.reshape(self.groups, -1, self.count, self.width)  # [G, O/G, count, k]
        return split.swapaxes(1, 2).reshape(-1, self.width)

    def joined(self, rows: _Array) -> _Array:
        """The way back: [P * O/G, k] -> [O, K]."""
        if self.count == 1:
            return rows
        split = rows.reshape(self.groups, self.count, -1, self.width)
        return split.swapaxes(1, 2).reshape(-1, self.count * self.width)[:, : self.size]

    def columns(self, columns: Float32Array) -> Float32Array:
        """Input columns [G, K, S] as [P, k, S]."""
        if self.count == 1:
            return columns
        return self._filled(columns, axis=1).reshape(len(self), self.width, -1)

    def repeated(self, values: _Array) -> _Array:
        """What the panels of a group share, [O, ...], as [P * O/G, ...]."""
        split = values.reshape(self.groups, 1, -1, *values.shape[1:])
        return np.repeat(split, self.count, axis=1).reshape(-1, *values.shape[1:])

    def summed(self, values: _Array) -> _Array:
        """Sums over the panels of each channel: [P * O/G] -> [O]."""
        result: _Array = values.reshape(self.groups, self.count, -1).sum(axis=1).ravel()
        return result

    def _filled(self, values: _Array, axis: int) -> _Array:
        """With columns of 0 behind, as many as the last panel lacks."""
        lacking = [(0, 0)] * values.ndim
        lacking[axis] = (0, self.count * self.width - self.size)
        return np.pad(values, lacking)
