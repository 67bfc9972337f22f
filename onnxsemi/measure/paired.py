"""Two models on the same images: how many answers were lost and won, and how sure that is.

    change = (won - lost) / n

The 95 % interval is Bonett and Price's for paired proportions ("Adjusted Wald confidence interval
for a difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 37, 2012): one
is added to each discordant count, so that it keeps its coverage when few images change.
"""

import math
from dataclasses import dataclass

import numpy as np

from onnxsemi.arrays import BoolArray

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Paired:
    """Top-1 of two models on the same images.

    Attributes:
        total: Images.
        before: Right answers of the first model.
        lost: Images that only the first answers rightly.
        won: Images that only the second answers rightly.
    """

    total: int
    before: int
    lost: int
    won: int

    @classmethod
    def of(cls, before: BoolArray, after: BoolArray) -> "Paired":
        """Compare hits, bool[N] each, same images in the same order."""
        lost, won = int((before & ~after).sum()), int((after & ~before).sum())
        return cls(int(np.size(before)), int(before.sum()), lost, won)

    @property
    def after(self) -> int:
        """Right answers of the second model."""
        return self.before - self.lost + self.won

    @property
    def change(self) -> float:
        """Change of accuracy, -1 to 1."""
        return (self.won - self.lost) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the change, -1 to 1.

        >>> [round(end, 4) for end in Paired(total=3000, before=2600, lost=10, won=10).interval]
        [-0.0031, 0.0031]
        """
        lost, won = (count + 1 for count in (self.lost, self.won))
        n = self.total + 2
        centre = (won - lost) / n
        half = _Z95 * math.sqrt(((won + lost) / n - centre**2) / n)
        return max(-1.0, centre - half), min(1.0, centre + half)
