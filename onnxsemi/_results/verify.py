"""What ``verify`` gives back."""

from dataclasses import dataclass
from pathlib import Path

from onnxsemi._short_form import Brief


@dataclass(frozen=True, repr=False)
class VerifyResult(Brief):
    """A written file that is whole, and of what it was compared with.

    Attributes:
        path: The file.
        checked: What was compared, a line each.
    """

    path: Path
    checked: tuple[str, ...]

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """The file, and what was compared."""
        lines = (line.partition(": ") for line in self.checked)
        return (("verified", str(self.path)), *((what, said) for what, _, said in lines))[:5]
