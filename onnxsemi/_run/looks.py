"""How often the test images of a run were asked.

Whoever looks at several plans and takes the one that these images like best is told too much good
of it. So every other plan counts as a look; the same one again does not, other images are fresh.
"""

from pathlib import Path

from msgspec import Struct

from onnxsemi._run.store import NO_RUN, read, write

LOOKS = "looks.json"


class _Looks(Struct, frozen=True):
    """Digests of the plans that images were asked of, and the fingerprint of these."""

    images: str
    plans: tuple[str, ...]


def count_look(folder: Path | None, images: str, plan: str) -> int:
    """Count a look at test images, and give which one it is: 1 for the first.

    Args:
        folder: The run's folder; None for a run that keeps nothing.
        images: Fingerprint of the images.
        plan: SHA-256 of the plan.

    Raises:
        RunError: If the run's count cannot be read.
    """
    if folder is None:
        return 1
    plans = _plans(folder / LOOKS, images)
    if plan not in plans:
        plans = (*plans, plan)
        write(folder / LOOKS, _Looks(images, plans), NO_RUN)
    return plans.index(plan) + 1


def is_report(folder: Path, images: str) -> bool:
    """Whether images are those that the run's plans were reported on.

    Raises:
        RunError: If the run's count cannot be read.
    """
    return bool(_plans(folder / LOOKS, images))


def _plans(path: Path, images: str) -> tuple[str, ...]:
    """Plans that the images were asked of; empty for other images."""
    if not path.exists():
        return ()
    found = read(path, _Looks, NO_RUN, "delete it, and looks are counted anew")
    return found.plans if found.images == images else ()
