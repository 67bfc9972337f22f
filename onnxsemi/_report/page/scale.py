"""Scales: values to pixels, with ticks that can be read.

The stretched scale is asinh(value / unit): linear within a few units of zero, logarithmic beyond,
for values of both signs that span decades.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from onnxsemi._arrays import Float64Array


class Kind(StrEnum):
    """What becomes of a value before it is placed."""

    LINEAR = "linear"
    LOG = "log"
    STRETCHED = "stretched"


@dataclass(frozen=True)
class Scale:
    """From ``low`` to ``high``, drawn from ``start`` to ``end``.

    Attributes:
        low: Least value.
        high: Largest value, > low.
        start: Pixel of ``low``.
        end: Pixel of ``high``.
        kind: What becomes of a value.
        unit: Of a stretched scale: up to where it is about linear.
    """

    low: float
    high: float
    start: float
    end: float
    kind: Kind = Kind.LINEAR
    unit: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.kind is Kind.LOG and self.low <= 0):
            raise ValueError(f"{self.kind} scale from {self.low} to {self.high}")

    def at(self, value: float) -> float:
        """Pixel of a value; what lies outside is put on the edge."""
        return float(self.all(np.array([value]))[0])

    def all(self, values: Float64Array) -> Float64Array:
        """Pixels of values."""
        low, high = self._bent(np.array([self.low, self.high]))
        share = (self._bent(np.clip(values, self.low, self.high)) - low) / (high - low)
        result: Float64Array = self.start + share * (self.end - self.start)
        return result

    def _bent(self, values: Float64Array) -> Float64Array:
        if self.kind is Kind.LOG:
            return np.log10(values)
        return np.arcsinh(values / self.unit) if self.kind is Kind.STRETCHED else values

    def ticks(self, gap: float = 60.0) -> list[float]:
        """Round values at least ``gap`` pixels from each other, ascending."""
        if self.kind is Kind.LINEAR:
            return self._round_steps(max(2, int(abs(self.end - self.start) / gap)))
        powers = range(-30, 31)
        decades = [10.0**power for power in powers]
        if self.kind is Kind.LOG:
            return self._apart([d for d in decades if self.low <= d <= self.high], gap)
        far = [d for d in decades if d >= self.unit]
        right = self._apart([0.0, *(d for d in far if d <= self.high)], gap)
        left = self._apart([0.0, *(-d for d in far if -d >= self.low)], gap)
        return sorted({value for value in (*left, *right) if self.low <= value <= self.high})

    def _round_steps(self, count: int) -> list[float]:
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [step * place for place in range(first, last + 1)]

    def _apart(self, values: Iterable[float], gap: float) -> list[float]:
        kept: list[float] = []
        for value in values:
            if not kept or abs(self.at(value) - self.at(kept[-1])) >= gap:
                kept.append(value)
        return kept


def stretched(values: Float64Array, start: float, end: float) -> Scale:
    """A stretched scale around zero for all finite values; its unit is their lower decile."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not len(sizes):
        return Scale(-1.0, 1.0, start, end)
    unit = 10.0 ** math.floor(math.log10(float(np.quantile(sizes, 0.1))))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return Scale(min(low, -unit), max(high, unit), start, end, Kind.STRETCHED, unit)


def logarithmic(values: Float64Array, start: float, end: float) -> Scale:
    """A logarithmic scale for all finite values above 0."""
    sizes = values[np.isfinite(values) & (values > 0)]
    if not len(sizes):
        return Scale(0.1, 1.0, start, end, Kind.LOG)
    low, high = float(sizes.min()), float(sizes.max())
    return Scale(low / 1.2, high * 1.2, start, end, Kind.LOG)


def short(value: float) -> str:
    """A tick's label.

    >>> [short(v) for v in (0, 0.001, -0.0001, 20, -2.5, 1000)]
    ['0', '0.001', '−10⁻⁴', '20', '−2.5', '1000']
    """
    size = abs(value)
    sign = "−" if value < 0 else ""
    if size == 0 or 1e-3 <= size < 1e4:
        return sign + f"{size:.4g}"
    power = round(math.log10(size))
    return f"{sign}10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def spread(values: Sequence[float], least: float) -> tuple[float, float]:
    """Least and largest value with a margin; at least ``least`` apart."""
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), (least - (high - low)) / 2, 0.0)
    return low - margin, high + margin
