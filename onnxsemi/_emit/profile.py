"""The profiles that users see: each is a storage, a layout and a tail."""

from dataclasses import dataclass
from enum import StrEnum

from onnxsemi._emit.layout import Arrange
from onnxsemi._emit.layout.merged import merged, merged_for_kernels
from onnxsemi._emit.layout.nodes import nodes_apart
from onnxsemi._emit.layout.semilayers import semilayers
from onnxsemi._emit.layout.values import values
from onnxsemi._emit.storage import Storage
from onnxsemi._emit.storage.containers import Containers
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
    INT8 = "int8"
    """Bit-packed weights and activations in uint8, for integer kernels."""
    NATIVE = "native"
    """ONNX's own types of 2 and 4 bits, bit-packed otherwise."""
    NODES = "nodes"
    """A node for each semilayer."""
    FAKE = "fake"
    """Float32 weights on the grid: not smaller, for importers that take nothing else."""

    @property
    def dequantizes(self) -> bool:
        """Whether a default session of ONNX Runtime dequantizes the weights anew at every run."""
        return self in (Profile.QDQ, Profile.NATIVE, Profile.NODES)

    @property
    def has_narrow_types(self) -> bool:
        """Whether 2 and 4 bits are stored in ONNX's own types, which have no half steps."""
        return self is Profile.NATIVE

    @property
    def quantizes_activations(self) -> bool:
        """Whether the file needs calibrated activations, and weights on symmetric grids."""
        return self is Profile.INT8


@dataclass(frozen=True)
class Form:
    """What a profile is put together from."""

    storage: type[Storage]
    arrange: Arrange
    tail: Tail


FORMS = {
    Profile.QDQ: Form(BitPlanes, semilayers, dequantize),
    Profile.FAST: Form(BitPlanes, merged, arithmetic),
    Profile.INT8: Form(BitPlanes, merged_for_kernels, dequantize_for_kernels),
    Profile.NATIVE: Form(NativeTypes, semilayers, dequantize),
    Profile.NODES: Form(BitPlanes, nodes_apart, dequantize),
    Profile.FAKE: Form(Containers, values, dequantize),
}
