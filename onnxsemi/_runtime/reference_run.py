"""What a machine computes of a model and of a product of matrices: whether it gives our bits.

ONNX Runtime and the BLAS libraries choose kernels by what the processor can do. Kinds of processors
can be told apart (:mod:`onnxsemi._runtime.processor`), but what counts is what they give: logits of
some images, and the sums of one product of matrices.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._runtime.blas import one_thread
from onnxsemi._runtime.processor import Processor
from onnxsemi._runtime.providers import CPU, Provider, build
from onnxsemi._runtime.sessions import Session

_SIDE = 288  # columns of a product: more than one panel of every kernel, and a rest
_PACKAGES = ("onnxsemi", "onnx", "numpy", "scipy", "distributed")


@dataclass(frozen=True)
class Findings:
    """What a machine is, and what it computes.

    Attributes:
        versions: Of what computes, by name.
        digest: SHA-256 of all that was computed.
        processor: What people call its processor.
        seen: Digest of images in the user's files; empty if it does not see them, or there are
            none.
    """

    versions: Mapping[str, str]
    digest: str
    processor: str
    seen: str = ""

    def against(self, other: "Findings") -> str | None:
        """Why its results are not the other's; None if they are the same."""
        for name, ours in other.versions.items():
            theirs = self.versions.get(name, "none")
            if theirs != ours:
                return f"has {name} {theirs}, and this machine {ours}"
        if self.digest != other.digest:
            return f"gives other bits ({self.processor}; this machine: {other.processor})"
        return None


@dataclass(frozen=True, eq=False)
class ReferenceRun:
    """What every machine computes before it may work.

    Attributes:
        model: Serialized float model.
        feeds: Its input, a few images.
        provider: What runs it.
        sight: Gives the digest of some images in the user's files, empty if they are not there;
            None if the images are in none.
    """

    model: bytes
    feeds: Mapping[str, NDArray[Any]]
    provider: Provider = CPU
    sight: Callable[[], str] | None = None

    def here(self) -> Findings:
        """What this machine computes."""
        digest = hashlib.sha256()
        for _, found in sorted(Session(self.model, self.provider).run(dict(self.feeds)).items()):
            digest.update(found.tobytes())
        side = np.random.default_rng(0).standard_normal((_SIDE, 4 * _SIDE))
        with one_thread():
            for wide in (side, side.astype(np.float32)):
                digest.update((wide @ wide.T).tobytes())
        seen = "" if self.sight is None else self.sight()
        return Findings(versions(), digest.hexdigest(), Processor.here().title, seen)


def versions() -> dict[str, str]:
    """Versions of everything that computes, or that tasks are sent by."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"Python": python, "onnxruntime": build()} | {name: version(name) for name in _PACKAGES}
