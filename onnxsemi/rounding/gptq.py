"""Error-compensating rounding: what one weight loses, the weights behind it make up for.

Weights w of a channel, columns of one matrix, are rounded one after the other to q. With C the
second moments of the layer's inputs, the change of output is (q - w) C (q - w)^T. Once weight j is
fixed, the others move to where they change the output least, given the error of j:

    w[k] -= (w[j] - q[j]) * U[j, k] / U[j, j],    k > j,    (C + damping)^-1 = U^T U

Columns are taken in descending order of their mean square, so that what matters most is rounded
while most of the others can still compensate; ties go to the lower index. Updates are gathered over
blocks of columns.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, sections 3 and 4; the error formula is Optimal Brain Surgeon's.
"""

from dataclasses import dataclass

import numpy as np

from onnxsemi.arrays import Float32Array, Float64Array, Int64Array
from onnxsemi.rounding.grid import Grid, values

BLOCK = 32
_RAISED = tuple(10.0**power for power in range(7))  # inputs that hardly vary need more damping


@dataclass(frozen=True, eq=False)
class Factor:
    """The second moments of one group of a layer, prepared for rounding.

    Attributes:
        second: float32[K, K], damping included.
        order: int64[K], columns in the order of rounding.
        upper: float32[K, K], U of the columns in that order.
    """

    second: Float32Array
    order: Int64Array
    upper: Float32Array

    @classmethod
    def of(cls, second: Float32Array, damping: float) -> "Factor":
        """Factorize, in float64.

        With the order reversed, ``C + damping = L L^T``; put back, L is upper triangular, and U its
        inverse.

        Args:
            second: float32[K, K], symmetric, no negative eigenvalue but for rounding.
            damping: Added to the diagonal; ten times that, and so on, if float32 noise is larger.

        Raises:
            ValueError: If it is not positive definite, damping included.
        """
        from scipy.linalg import lapack  # noqa: PLC0415  slow to import

        energy = np.diag(second).astype(np.float64)
        order = np.argsort(-energy, kind="stable")
        matrix = second[np.ix_(order[::-1], order[::-1])].astype(np.float64)
        level = max(damping, float(np.finfo(np.float32).tiny))
        for raised in _RAISED:
            matrix[np.diag_indices_from(matrix)] = energy[order[::-1]] + raised * level
            lower, failed = lapack.dpotrf(matrix, lower=1)
            if not failed:
                break
        upper, failed_too = lapack.dtrtri(lower, lower=1, overwrite_c=1)
        if failed or failed_too:
            raise ValueError("second moments are not positive definite, damping included")
        damped = second.copy()
        damped[np.diag_indices_from(damped)] += np.float32(raised * damping)
        return cls(damped, order, np.triu(upper[::-1, ::-1]).astype(np.float32))

    def solved(self, rows: Float64Array) -> Float64Array:
        """``rows (C + damping)^-1`` for float64[R, K]."""
        upper = self.upper.astype(np.float64)
        result = np.empty_like(rows)
        result[:, self.order] = rows[:, self.order] @ upper.T @ upper
        return result


def compensated(
    weight: Float32Array, factor: Factor, grid: Grid
) -> tuple[Float32Array, Float32Array]:
    """Codes of weights float32[R, K], each row on its own grid.

    Returns:
        Codes float32[R, K], and float32[R]: the change of output, the damping counted, which is the
        sum over columns of ((w[j] - q[j]) / U[j, j])^2.
    """
    left = np.ascontiguousarray(weight[:, factor.order])
    upper, size = factor.upper, left.shape[1]
    inverse_step, total = 1 / grid.step, np.zeros(len(left), np.float32)
    codes = np.empty((size, len(left)), np.float32)  # a column at a time
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        # columns side by side in memory
        block = np.ascontiguousarray(left[:, begin:end].T)  # [B, R]
        errors = np.empty_like(block)
        for place in range(end - begin):
            column = begin + place
            wanted = block[place]
            code = np.clip(np.rint(wanted * inverse_step + grid.zero), 0, grid.top)
            codes[column] = code
            errors[place] = (wanted - (code - grid.zero) * grid.step) / upper[column, column]
            block[place + 1 :] -= upper[column, column + 1 : end, None] * errors[place]
        total += np.square(errors).sum(axis=0)
        if end < size:
            left[:, end:] -= errors.T @ upper[begin:end, end:]
    result = np.empty((size, len(left)), np.float32)
    result[factor.order] = codes
    return np.ascontiguousarray(result.T), total


def refined(
    weight: Float32Array, codes: Float32Array, second: Float32Array, grid: Grid, sweeps: int
) -> Float32Array:
    """Codes after coordinate descent on the change of output: none is worse than before.

    Column by column every code goes to where the change of output is least with all others fixed; a
    sweep without a change ends it.

    Args:
        weight: float32[R, K], what the codes stand for.
        codes: float32[R, K], where to begin.
        second: float32[K, K].
        grid: Grid of each row.
        sweeps: Times that all columns are passed.
    """
    codes = codes.copy()
    gradient = (values(codes, grid) - weight) @ second
    diagonal = np.diag(second)
    for _ in range(sweeps):
        changes = 0
        for column in np.flatnonzero(diagonal > 0):
            slope = gradient[:, column] / (diagonal[column] * grid.step)
            code = np.clip(np.rint(codes[:, column] - slope), 0, grid.top)
            moved = np.flatnonzero(code != codes[:, column])
            if len(moved):
                steps = (code[moved] - codes[moved, column]) * grid.step[moved]
                gradient[moved] += steps[:, None] * second[column]
                codes[moved, column] = code[moved]
                changes += len(moved)
        if not changes:
            break
    return codes


def output_error(
    weight: Float32Array, codes: Float32Array, second: Float32Array, grid: Grid
) -> Float32Array:
    """Mean square of the change of output: float32[R]."""
    change = values(codes, grid) - weight
    return np.asarray(((change @ second) * change).sum(axis=1), np.float32)
