"""The profiles that users see: each is a storage, a layout and a tail."""

from dataclasses import dataclass
from enum import StrEnum

from onnxsemi._emit.layout import Arrange
from onnxsemi._emit.layout.merged import merged, merged_for_kernels
from onnxsemi._emit.layout.nodes import nodes_apart
from onnxsemi._emit.layout.semilayers import semilayers
from onnxsemi._emit.layout.values import values
from onnxsemi._emit.storage import Storage
from onnxsemi._emit.storage.coded import Coded
from onnxsemi._emit.storage.containers import Containers
from onnxsemi._emit.storage.float_planes import FloatPlanes
from onnxsemi._emit.storage.native import NativeTypes
from onnxsemi._emit.storage.planes import BitPlanes
from onnxsemi._emit.tail import Tail
from onnxsemi._emit.tail.arithmetic import arithmetic
from onnxsemi._emit.tail.dequantize import dequantize
from onnxsemi._emit.tail.kernels import dequantize_for_kernels


class Profile(StrEnum):
    """Form of the emitted file."""

    QDQ = "qdq"
    """Bit-packed weights behind DequantizeLinear; full speed through ``onnxsemi.load_session``."""
    FAST = "fast"
    """Bit-packed weights behind plain arithmetic; full speed in any session."""
    DENSE = "dense"
    """Entropy-coded weights behind plain arithmetic: the smallest; full speed in any session."""
    INT8 = "int8"
    """Bit-packed weights and activations in uint8, for integer kernels."""
    INT8_DENSE = "int8-dense"
    """Entropy-coded weights and activations in uint8, for integer kernels."""
    NATIVE = "native"
    """ONNX's own types of 2 and 4 bits, bit-packed otherwise."""
    NODES = "nodes"
    """A node for each semilayer."""
    PORTABLE = "portable"
    """As ``fast``, unpacked by float32 arithmetic: for runtimes without operators on bits."""
    TENSORRT = "tensorrt"
    """Weights and activations in int8 with zero point 0, as TensorRT's explicit quantization."""
    FAKE = "fake"
    """Float32 weights on the grid: not smaller, for importers that take nothing else."""

    @property
    def dequantizes(self) -> bool:
        """Whether a default session of ONNX Runtime dequantizes the weights anew at every run."""
        return self in (Profile.QDQ, Profile.NATIVE, Profile.NODES)

    @property
    def codes_entropy(self) -> bool:
        """Whether codes are entropy-coded where that is smaller."""
        return self in (Profile.DENSE, Profile.INT8_DENSE)

    @property
    def has_narrow_types(self) -> bool:
        """Whether 2 and 4 bits are stored in ONNX's own types, which have no half steps."""
        return self is Profile.NATIVE

    @property
    def quantizes_activations(self) -> bool:
        """Whether the file needs calibrated activations, and weights on symmetric grids."""
        return self.activation_type is not None

    @property
    def activation_type(self) -> str | None:
        """Type of the activations; None where they stay float32."""
        types = {Profile.INT8: "uint8", Profile.INT8_DENSE: "uint8", Profile.TENSORRT: "int8"}
        return types.get(self)


@dataclass(frozen=True)
class Form:
    """What a profile is put together from.

    Attributes:
        storage: How codes are stored.
        arrange: How the semilayers of a layer are put together.
        tail: How codes become float32 weights.
        signed_activations: Whether activations, where they are quantized, are int8 with zero point
            0; else uint8.
    """

    storage: type[Storage]
    arrange: Arrange
    tail: Tail
    signed_activations: bool = False


FORMS = {
    Profile.QDQ: Form(BitPlanes, semilayers, dequantize),
    Profile.FAST: Form(BitPlanes, merged, arithmetic),
    Profile.DENSE: Form(Coded, merged, arithmetic),
    Profile.INT8: Form(BitPlanes, merged_for_kernels, dequantize_for_kernels),
    Profile.INT8_DENSE: Form(Coded, merged_for_kernels, dequantize_for_kernels),
    Profile.NATIVE: Form(NativeTypes, semilayers, dequantize),
    Profile.NODES: Form(BitPlanes, nodes_apart, dequantize),
    Profile.PORTABLE: Form(FloatPlanes, merged, arithmetic),
    Profile.TENSORRT: Form(
        Containers, merged_for_kernels, dequantize_for_kernels, signed_activations=True
    ),
    Profile.FAKE: Form(Containers, values, dequantize),
}
