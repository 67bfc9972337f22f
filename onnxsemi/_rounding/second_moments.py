"""What rounding needs to know of a layer's inputs: their mean and their second moments.

For a layer that computes ``y = W x`` on columns x (the patches of a convolution), a change dW of
one output channel's weights changes that channel's output by ``dW x``. Its mean square is

    mean((dW x)^2) = dW (C + m m^T) dW^T       C: covariance of x, m: its mean

If the bias takes up the mean of the change, ``dW C dW^T`` is what is left. Either is damped: to
the diagonal is added what few images ask for (:mod:`onnxsemi._rounding.shrinkage`).

Groups of a layer have moments of their own, and so have the panels that the columns of a very wide
layer are cut into (:mod:`onnxsemi._rounding.panels`): P panels of k columns, else one a group.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._rounding.panels import Panels
from onnxsemi._rounding.row_parts import Each, in_parts
from onnxsemi._rounding.shrinkage import MomentSpread

CONSTANT = 1e-5
"""Share of its mean square below which a column's variance is but the noise of float32 sums."""


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Moments of a layer's input columns, over calibration images and positions.

    Attributes:
        second: float32[P, k, k], what a change of weights is measured by: covariance of the
            columns of each panel if the bias takes up the mean, else their raw second moments;
            damped.
        mean: float64[P, k], mean of the columns.
        damping: float64[P], what was added to the diagonal of ``second``.
        cross: float64[P * O/G, k], what the layer's output is short of the float model's, times
            the columns: covariance or raw, as ``second``; None if that was not summed.
        offset: float64[O], mean of what the output is short of.
    """

    second: Float32Array
    mean: Float64Array
    damping: Float64Array
    cross: Float64Array | None = None
    offset: Float64Array | None = None

    def panels(self, size: int) -> Panels:
        """How channels of K weights fall into these panels: as few as hold them."""
        width = self.mean.shape[1]
        count = -(-size // width)
        return Panels(len(self.mean) // count, size, count)

    def mean_output(self, change: Float32Array) -> Float64Array:
        """Mean of what a change of the weights, float32[O, ...], adds to each channel: [O]."""
        panels = self.panels(change[0].size)
        rows = panels.rows(change.reshape(len(change), -1)).astype(np.float64)
        split = rows.reshape(len(panels), -1, panels.width)  # [P, O/G, k]
        return panels.summed(np.einsum("gok,gk->go", split, self.mean))


@dataclass(frozen=True, eq=False)
class BlockSums:
    """Sums over a block of columns, of all groups of a layer or of some.

    Attributes:
        groups: Which groups these are, of the layer's.
        samples: Number of columns, S.
        second: float32[P, k, k], sums of their products.
        first: float64[P, k], their sums.
        cross: float32[P * O/G, k], what the outputs are short of, times the columns; None if
            that is not summed.
        distance: float64[O], sums of what the outputs are short of.
    """

    groups: range
    samples: int
    second: Float32Array
    first: Float64Array
    cross: Float32Array | None = None
    distance: Float64Array | None = None

    def split(self, count: int) -> "tuple[BlockSums, list[Float32Array]]":
        """The sums without ``second``, and the rows of that in so many parts."""
        rest = replace(self, second=self.second[:, :0])
        return rest, np.array_split(self.second, count, axis=1)


class MomentSums:
    """Sums over samples, block by block: the memory does not grow with their number."""

    def __init__(self, groups: int, size: int, outputs: int = 0) -> None:
        """Begin with nothing.

        Args:
            groups: Groups of the layer, G.
            size: Weights of one output channel, K.
            outputs: Output channels whose distance from the float model is summed too; 0 for none,
                where how much the blocks differ is followed instead.
        """
        self._panels = panels = Panels.of(groups, size)
        self._second = np.zeros((len(panels), panels.width, panels.width), np.float32)
        self._first = np.zeros((len(panels), panels.width))
        self._cross = np.zeros((outputs * panels.count, panels.width))
        self._distance = np.zeros(outputs)
        self._spreads = [] if outputs else [MomentSpread() for _ in range(len(panels))]
        self._samples = np.zeros(len(panels), np.int64)

    def block(
        self,
        columns: Float32Array,
        distance: Float32Array | None = None,
        groups: slice = slice(None),
    ) -> BlockSums:
        """Sums of a block, which are not added yet: several may be worked on at once.

        Args:
            columns: float32[G, K, S], of all groups or some.
            distance: float32[O, S], float model's output minus this one's.
            groups: Which groups these are.
        """
        chosen = range(*groups.indices(self._panels.groups))
        some = replace(self._panels, groups=len(chosen))
        columns = some.columns(columns)  # [P, k, S]
        turned = columns.transpose(0, 2, 1)
        # sums of neighbours, pair by pair: float32 is enough for a block
        second, first = columns @ turned, columns.sum(axis=2).astype(np.float64)
        if distance is None:
            return BlockSums(chosen, columns.shape[2], second, first)
        split = some.repeated(distance).reshape(len(columns), -1, columns.shape[2])  # [P, O/G, S]
        cross = (split @ turned).reshape(-1, some.width)
        short = distance.sum(axis=1, dtype=np.float64)
        return BlockSums(chosen, columns.shape[2], second, first, cross, short)

    def without_products(self) -> "MomentSums":
        """The same for sums whose products of columns are summed by others, row by row."""
        found = copy(self)
        found._second = self._second[:, :0]
        return found

    def with_products(self, second: Float32Array) -> "MomentSums":
        """The same with the products float32[P, k, k] that others have summed."""
        found = copy(self)
        found._second = second
        return found

    def add(self, parts: Iterable[BlockSums]) -> None:
        """Add the sums of a block, part by part; the order of blocks decides about the last bit."""
        for part in parts:
            begin, end = part.groups.start, part.groups.stop
            count, each = self._panels.count, len(self._distance) // self._panels.groups
            panels = slice(begin * count, end * count)
            self._second[panels] += part.second
            self._first[panels] += part.first
            self._samples[panels] += part.samples
            spreads = self._spreads[panels]
            for spread, own, sums in zip(spreads, part.second, part.first, strict=False):
                spread.add(own, sums, part.samples)
            if part.cross is not None and part.distance is not None:
                self._cross[begin * count * each : end * count * each] += part.cross
                self._distance[begin * each : end * each] += part.distance

    def moments(
        self, *, centred: bool, damping: Float64Array | None = None, each: Each = map
    ) -> SecondMoments:
        """What was summed, as means.

        Args:
            centred: If the bias takes up the mean of every change.
            damping: float64[P], where it is known; else it follows from how much blocks differ.
            each: Maps over parts of the rows of large matrices.
        """
        count = int(self._samples[0])  # that of every panel
        mean = self._first / count
        second = np.empty_like(self._second)

        def divide(rows: slice) -> None:
            np.divide(self._second[:, rows], np.float32(count), out=second[:, rows])

        in_parts(second.shape[1], divide, each)
        if damping is None:
            damping = self._damping(second, mean)
        if centred:
            raw = np.einsum("gkk->gk", second).copy()

            def centre(rows: slice) -> None:
                for own, average in zip(second, mean, strict=True):  # in float64 they are large
                    own[rows] -= (average[rows, None] * average).astype(np.float32)

            in_parts(second.shape[1], centre, each)
            constant = np.einsum("gkk->gk", second) < CONSTANT * raw
            for own, columns in zip(second, constant, strict=True):
                own[columns], own[:, columns] = 0, 0
        np.einsum("gkk->gk", second)[:] += damping[:, None].astype(np.float32)
        if not len(self._distance):
            return SecondMoments(second, mean, damping)
        offset = self._distance / count
        cross = self._cross / count
        if centred:
            outputs = len(cross) // len(mean)
            cross -= self._panels.repeated(offset)[:, None] * np.repeat(mean, outputs, axis=0)
            cross[np.repeat(constant, outputs, axis=0)] = 0
        return SecondMoments(second, mean, damping, cross, offset)

    def _damping(self, second: Float32Array, mean: Float64Array) -> Float64Array:
        """float64[P], from raw second moments."""
        panels = zip(self._spreads, second, mean, strict=True)
        return np.array([spread.damping(own, average) for spread, own, average in panels])
