"""Error-compensating rounding: what one weight loses, the weights behind it make up for.

Weights w of a channel, columns of one matrix, are rounded one after the other to q. With C the
second moments of the layer's inputs, the change of output is (q - w) C (q - w)^T. Once weight j is
fixed, the others move to where they change the output least, given the error of j:

    w[k] -= (w[j] - q[j]) * U[j, k] / U[j, j],    k > j,    (C + damping)^-1 = U^T U

Columns are taken in descending order of their mean square, so that what matters most is rounded
while most of the others can still compensate; ties go to the lower index. Updates are gathered over
blocks of columns, and over several blocks for columns far behind: one large product of matrices
instead of many that wait for the memory.

Groups of a layer have inputs of their own, and so a C each. The rows of several groups are worked
on at once, as [groups, rows, columns]: a depthwise convolution has a thousand groups of one row.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, sections 3 and 4; the error formula is Optimal Brain Surgeon's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array, Int64Array
from onnxsemi._rounding.grid import Grid, values
from onnxsemi._rounding.row_parts import Each, in_parts
from onnxsemi._rounding.triangular import inverse_cholesky

BLOCK = 32
NEAR = 256  # columns that the updates of a block reach at once; those behind wait for all of them
LOOKED_AT = 128  # columns among which codes that move are looked for at once; changes no result
_RAISED = (0.0, *(10.0**power for power in range(-4, 5)))  # where float32 noise is larger than C


@dataclass(frozen=True, eq=False)
class Factor:
    """The second moments of some groups of a layer, prepared for rounding.

    Attributes:
        order: int64[G, K], columns in the order of rounding.
        upper: float32[G, K, K], U of the columns in that order.
    """

    order: Int64Array
    upper: Float32Array

    @classmethod
    def of(cls, second: Float32Array, each: Each = map) -> "Factor":
        """Factorize one group, in float64.

        With the order reversed, ``C + damping = L L^T``; put back, L is upper triangular, and U its
        inverse.

        Args:
            second: float32[K, K], symmetric, damped, no negative eigenvalue but for float32 noise;
                where that is larger, shares of the diagonal's mean are added.
            each: Maps over parts of the rows.

        Raises:
            ValueError: If it is not positive definite, damping included.
        """
        energy = np.diag(second).astype(np.float64)
        order = np.argsort(-energy, kind="stable")
        matrix, found = np.empty(second.shape), np.zeros(second.shape, np.float32)

        def reorder(rows: slice) -> None:
            matrix[rows] = second[np.ix_(order[::-1][rows], order[::-1])]

        level = max(float(energy.mean()), float(np.finfo(np.float32).tiny))
        for raised in _RAISED:
            in_parts(len(order), reorder, each)
            matrix[np.diag_indices_from(matrix)] = energy[order[::-1]] + raised * level
            inverse = inverse_cholesky(matrix, each)
            if inverse is not None:
                break
        else:
            raise ValueError("second moments are not positive definite, damping included")

        def put_back(rows: slice) -> None:
            found[rows, rows.start :] = inverse[::-1, ::-1][rows, rows.start :]

        in_parts(len(order), put_back, each)
        return cls(order[None], found[None])

    @classmethod
    def joined(cls, factors: Sequence["Factor"]) -> "Factor":
        """Groups of several, one after the other."""
        if len(factors) == 1:
            return factors[0]
        order, upper = ([getattr(f, name) for f in factors] for name in ("order", "upper"))
        return cls(np.concatenate(order), np.concatenate(upper))

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.order)

    def groups(self, chosen: slice) -> "Factor":
        """Some of the groups."""
        return Factor(self.order[chosen], self.upper[chosen])

    @property
    def spread(self) -> Float32Array:
        """float32[G]: mean over columns of 1 / U[j, j]^2, what the square of an error costs."""
        diagonal = np.einsum("gkk->gk", self.upper).astype(np.float64)
        return np.asarray((diagonal**-2).mean(axis=1), np.float32)

    def solved(self, rows: Float64Array, each: Each = map) -> Float64Array:
        """``rows (C + damping)^-1`` for float64[G * R, K].

        Args:
            rows: The rows of a group together.
            each: Maps over parts of U.
        """
        result = np.empty_like(rows)
        parts = (np.split(values, len(self)) for values in (rows, result))
        for order, upper, given, found in zip(self.order, self.upper, *parts, strict=True):
            found[:, order] = _solved(given[:, order], upper.astype(np.float64), each)
        return result


def _solved(rows: Float64Array, upper: Float64Array, each: Each) -> Float64Array:
    """Rows times U^T U, columns of the product side by side."""
    half, whole = np.empty_like(rows), np.empty_like(rows)

    def times_transposed(some: slice) -> None:
        behind = slice(some.start, None)  # before it U is 0
        half[:, some] = rows[:, behind] @ upper[some, behind].T

    def times_upper(some: slice) -> None:
        before = slice(some.stop)  # behind it U is 0
        whole[:, some] = half[:, before] @ upper[before, some]

    in_parts(len(upper), times_transposed, each)
    in_parts(len(upper), times_upper, each)
    return whole


def compensated(
    weight: Float32Array, factor: Factor, grid: Grid
) -> tuple[Float32Array, Float32Array]:
    """Codes of weights float32[G * R, K], each row on its own grid, the rows of a group together.

    Returns:
        Codes float32[G * R, K], and float32[G * R]: the change of output, the damping counted,
        which is the sum over columns of ((w[j] - q[j]) / U[j, j])^2.
    """
    groups, size = factor.order.shape
    left = np.empty((groups, len(weight) // groups, size), np.float32)
    for place, (rows, order) in enumerate(zip(np.split(weight, groups), factor.order, strict=True)):
        left[place] = rows[:, order]
    shaped = grid.shaped(groups, -1)
    step, zero = shaped.step, shaped.zero
    inverse_step, total = 1 / step, np.zeros_like(step)
    codes = np.empty((size, *step.shape), np.float32)  # a column at a time
    for near in range(0, size, NEAR):
        far = min(near + NEAR, size)
        own = np.ascontiguousarray(left[:, :, near:far])
        gathered = np.empty_like(own)
        for begin in range(near, far, BLOCK):
            end = min(begin + BLOCK, far)
            some = slice(begin - near, end - near)
            # columns side by side in memory
            block = np.ascontiguousarray(own[:, :, some].transpose(2, 0, 1))  # [B, G, R]
            upper = factor.upper[:, begin:end, begin:end].transpose(1, 2, 0)[..., None]
            errors = np.empty_like(block)
            for place, wanted in enumerate(block):
                own_upper = upper[place, place]
                code = shaped.choose(wanted * inverse_step + zero, own_upper**-2)
                codes[begin + place] = code
                errors[place] = (wanted - (code - zero) * step) / own_upper
                block[place + 1 :] -= upper[place, place + 1 :] * errors[place]
            total += np.square(errors).sum(axis=0)
            gathered[:, :, some] = errors.transpose(1, 2, 0)
            if end < far:
                own[:, :, end - near :] -= (
                    gathered[:, :, some] @ factor.upper[:, begin:end, end:far]
                )
        if far < size:
            left[:, :, far:] -= gathered @ factor.upper[:, near:far, far:]
    result = np.empty_like(codes)
    result[factor.order.T, np.arange(groups)] = codes
    return np.ascontiguousarray(result.reshape(size, -1).T), total.ravel()


def refined(
    weight: Float32Array, codes: Float32Array, second: Float32Array, grid: Grid, sweeps: int
) -> Float32Array:
    """Codes after coordinate descent on the change of output: none is worse than before.

    Column by column every code goes to where the change of output is least with all others fixed; a
    sweep without a change ends it. Most stay: of each row, which no other row concerns, the next
    that moves is looked for among several columns at once.

    Args:
        weight: float32[G * R, K], what the codes stand for, the rows of a group together.
        codes: float32[G * R, K], where to begin.
        second: float32[G, K, K], or [K, K] of one group.
        grid: Grid of each row.
        sweeps: Times that all columns are passed.
    """
    codes, moments = codes.copy(), second.reshape(-1, *second.shape[-2:])
    gradient = by_group(values(codes, grid) - weight, moments)
    each = len(codes) // len(moments)  # rows of a group
    importance = np.repeat(np.einsum("gkk->gk", moments), each, axis=0)
    curvature = importance * grid.step[:, None]
    curvature[curvature <= 0] = np.inf  # the output does not vary with it: no code moves
    moving = np.arange(len(codes))
    for _ in range(sweeps):
        moved = np.zeros(len(codes), bool)
        for begin in range(0, codes.shape[1], LOOKED_AT):
            some = slice(begin, begin + LOOKED_AT)
            slopes = _Slopes(codes, gradient, curvature, importance, grid)
            for rows, columns, code in _moves(moving, some, slopes):
                steps = (code - codes[rows, columns]) * grid.step[rows]
                gradient[rows] += steps[:, None] * moments[rows // each, columns]
                codes[rows, columns] = code
                moved[rows] = True
        moving = np.flatnonzero(moved)
        if not len(moving):
            break
    return codes


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Where codes are, and what the output says of moving them: float32[G * R, K] each.

    Attributes:
        codes: As they are.
        gradient: Half of how the change of output changes with a weight.
        curvature: How that changes with a code.
        importance: How it changes with a weight.
        grid: Grid of each row.
    """

    codes: Float32Array
    gradient: Float32Array
    curvature: Float32Array
    importance: Float32Array
    grid: Grid

    def best(self, rows: Int64Array, some: slice) -> Float32Array:
        """Where the codes of some rows and columns would go, each with all others as they are."""
        own = self.codes[rows, some]
        slope = self.gradient[rows, some] / self.curvature[rows, some]
        return (
            self.grid.rows(rows).shaped(-1, 1).choose(own - slope, self.importance[rows, some], own)
        )


def _moves(
    rows: Int64Array, some: slice, slopes: _Slopes
) -> Iterator[tuple[Int64Array, Int64Array, Float32Array]]:
    """The codes that move among some columns, in the order of the columns for each row by itself.

    Of every row that still has one the next is given: rows, columns, codes. Whoever takes them
    changes codes and gradients before the next are looked for.
    """
    passed = np.zeros(len(rows), np.int64)
    while len(rows):
        code = slopes.best(rows, some)
        moves = (code != slopes.codes[rows, some]) & (np.arange(code.shape[1]) >= passed[:, None])
        found = np.flatnonzero(moves.any(axis=1))
        places = moves[found].argmax(axis=1)
        rows, passed = rows[found], places + 1
        yield rows, some.start + places, code[found, places]


def output_error(
    weight: Float32Array, codes: Float32Array, second: Float32Array, grid: Grid
) -> Float32Array:
    """Mean square of the change of output, of the rows of groups as above: float32[G * R]."""
    change = values(codes, grid) - weight
    product = by_group(change, second.reshape(-1, *second.shape[-2:]))
    return np.asarray((product * change).sum(axis=1), np.float32)


def by_group(rows: Float32Array, second: Float32Array) -> Float32Array:
    """Rows float32[G * R, K], each times the float32[K, K] of its group."""
    split = rows.reshape(len(second), -1, rows.shape[1])
    return np.asarray((split @ second).reshape(rows.shape), np.float32)
