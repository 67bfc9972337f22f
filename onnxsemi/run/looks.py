"""How often the test images of a run were asked.

    looks.json      {"images": "<fingerprint>", "plans": ["<sha256>", ...]}

Whoever looks at several plans and takes the one that these images like best is told too much good
of it. So every other plan counts as a look; the same one again does not, other images are fresh.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from onnxsemi.atomic import whole_file
from onnxsemi.errors import RunError

LOOKS = "looks.json"


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
    plans = list(_plans(folder / LOOKS, images))
    if plan not in plans:
        plans.append(plan)
        with whole_file(folder / LOOKS) as scratch:
            text = json.dumps({"images": images, "plans": plans}, indent=1)
            scratch.write_text(text + "\n", encoding="utf-8")
    return plans.index(plan) + 1


def is_report(folder: Path, images: str) -> bool:
    """Whether images are those that the run's plans were reported on.

    Raises:
        RunError: If the run's count cannot be read.
    """
    return bool(_plans(folder / LOOKS, images))


def _plans(path: Path, images: str) -> Sequence[str]:
    """Plans that the images were asked of; empty for other images."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        asked, plans = found["images"], found["plans"]
        if not all(isinstance(plan, str) for plan in (asked, *plans)):
            raise TypeError(f"{asked!r}, {plans!r}")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path}: is damaged; delete it, and looks are counted anew") from None
    return plans if asked == images else ()
