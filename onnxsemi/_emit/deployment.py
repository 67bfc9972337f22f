"""Where a file is to run: what that asks of plans, and the form that is written.

A target is a row of ``DEPLOYMENTS``. The search obeys it (bitwidths, grids, one bitwidth a layer),
the form follows from it, and what a converter wants beside the model is written beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import onnx

from onnxsemi._emit.profile import Profile
from onnxsemi._errors import PlanError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS, MAX_BITS
from onnxsemi._quantizer.affine import Scheme

_EVERY = tuple(range(MAX_BITS, 0, -1))
_ON_BITS = frozenset({"BitShift", "BitwiseAnd", "BitwiseOr"})


class Target(StrEnum):
    """Where a file is to run."""

    TENSORRT = "tensorrt"
    """NVIDIA TensorRT: explicit quantization."""
    QNN = "qnn"
    """Qualcomm AI Engine Direct, with AIMET's encodings."""
    OPENVINO = "openvino"
    """Intel OpenVINO."""
    WEB = "web"
    """onnxruntime-web, in a browser or in Node."""
    OPENCV = "opencv"
    """OpenCV's DNN module."""
    TRACT = "tract"
    """Sonos' tract."""
    MNN = "mnn"
    """Alibaba's MNN, by its converter."""
    NCNN = "ncnn"
    """Tencent's ncnn, by pnnx."""
    LITERT = "litert"
    """Google LiteRT, by onnx2tf."""
    COREAI = "coreai"
    """Apple's converters, which quantize layer by layer."""


class Companion(StrEnum):
    """What is written beside the model."""

    BITS = "bits.json"
    """Bitwidth and scales of every layer, for converters that quantize themselves."""
    ENCODINGS = "encodings"
    """AIMET's encodings, version 2.0.0."""


@dataclass(frozen=True)
class Deployment:
    """What a target takes.

    Attributes:
        profile: Form of the file.
        bits: Bitwidths that a channel may have, widest first; float32 channels, too.
        per_layer: Whether all channels of a layer have one bitwidth.
        scheme: The grids; None for either.
        whole_steps: Whether zero points lie on levels.
        most_opset: Of the file; None if any that ONNX Runtime runs will do.
        refused: Operators that it does not have.
        companion: What is written beside the model; None for nothing.
        tried: Whether files were run on it (``benchmarks/runtimes.py``).
    """

    profile: Profile
    bits: tuple[int, ...] = _EVERY
    per_layer: bool = False
    scheme: Scheme | None = None
    whole_steps: bool = False
    most_opset: int | None = None
    refused: frozenset[str] = frozenset()
    companion: Companion | None = None
    tried: bool = True

    def check(self, plan: BitPlan, scheme: Scheme, target: Target) -> None:
        """Refuse a plan that the target does not take.

        Raises:
            PlanError: With the layer.
        """
        if self.scheme not in (None, scheme):
            raise PlanError(f"`target` {target} takes {self.scheme} grids, the plan has {scheme}")
        taken = {*self.bits, FLOAT_BITS}
        for layer, channels in plan.bits.items():
            widths = sorted(set(channels.tolist()), reverse=True)
            if self.per_layer and len(widths) > 1:
                raise PlanError(
                    f"`target` {target} takes one bitwidth a layer; {layer!r} has {_said(widths)}"
                )
            if other := [bits for bits in widths if bits not in taken]:
                raise PlanError(
                    f"`target` {target} takes {_said(self.bits)} bits; {layer!r} has {_said(other)}"
                )

    def check_file(self, model: onnx.ModelProto, target: Target) -> None:
        """Refuse a file that the target does not load.

        Raises:
            PlanError: With what it has.
        """
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        if self.most_opset is not None and opset > self.most_opset:
            raise PlanError(
                f"`target` {target} takes opset {self.most_opset} at most, the model has {opset}: "
                "export it with a lower one"
            )
        for node in model.graph.node:
            if node.op_type in self.refused:
                raise PlanError(f"`target` {target} has no {node.op_type}, which the model has")


def _said(bits: Iterable[int]) -> str:
    return ", ".join(map(str, bits))


_BY_LAYER = Deployment(
    Profile.FAKE,
    bits=(8, 4),
    per_layer=True,
    scheme=Scheme.SYMMETRIC,
    whole_steps=True,
    companion=Companion.BITS,
)

DEPLOYMENTS = {
    Target.TENSORRT: Deployment(
        Profile.TENSORRT,
        bits=(8,),
        per_layer=True,
        scheme=Scheme.SYMMETRIC,
        whole_steps=True,
        most_opset=25,
        refused=_ON_BITS,
        tried=False,
    ),
    Target.QNN: Deployment(
        Profile.NATIVE,
        bits=(8, 4),
        per_layer=True,
        scheme=Scheme.SYMMETRIC,
        whole_steps=True,
        most_opset=25,
        refused=_ON_BITS,
        companion=Companion.ENCODINGS,
        tried=False,
    ),
    Target.OPENVINO: Deployment(Profile.QDQ),
    Target.WEB: Deployment(Profile.FAST),
    Target.OPENCV: Deployment(Profile.PORTABLE, refused=_ON_BITS),
    Target.TRACT: Deployment(Profile.FAST),
    Target.MNN: _BY_LAYER,
    Target.NCNN: Deployment(Profile.PORTABLE, refused=_ON_BITS),
    Target.LITERT: replace(_BY_LAYER, tried=False),
    Target.COREAI: replace(_BY_LAYER, tried=False),
}
