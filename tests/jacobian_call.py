"""One operator at one image, as the oracle of Jacobians sees it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Place = tuple[int, ...]
Terms = Iterator[tuple[Place, Place, float]]


@dataclass(frozen=True, eq=False)
class Call:
    """One operator at one image; every varying array has a batch axis of size 1.

    Attributes:
        attributes: The node's attributes.
        inputs: Its inputs; None where one is left out.
        place: The input to differentiate by.
        output: Shape of its output.
    """

    attributes: dict[str, object]
    inputs: list[NDArray[np.generic] | None]
    place: int
    output: Place

    @property
    def x(self) -> Array:
        return self.inputs[self.place]

    def attribute(self, name, default):
        return self.attributes.get(name, default)

    def integers(self, place, default):
        given = len(self.inputs) > place and self.inputs[place] is not None
        return self.inputs[place].tolist() if given else default


@dataclass(frozen=True, eq=False)
class Jacobian:
    """float64[outputs, inputs] each.

    Attributes:
        values: The derivative.
        sizes: Sum of the sizes of its summands.
        count: The most summands that one input's gradient has.
    """

    values: Array
    sizes: Array
    count: int


def broadcast(factor: Callable[[Call, Place], float]) -> Callable[[Call], Terms]:
    def terms(call: Call) -> Terms:
        for o in np.ndindex(*call.output):
            yield o, met(o, call.x.shape), factor(call, o)

    return terms


def met(output: Place, shape: Place) -> Place:
    """Place in an operand that is broadcast to the output."""
    behind = output[len(output) - len(shape) :]
    return tuple(0 if size == 1 else o for o, size in zip(behind, shape, strict=True))


def other_value(call: Call, o: Place) -> float:
    other = call.inputs[1 - call.place]
    return float(other[met(o, other.shape)])
