"""The lowest ONNX Runtime that loads a file, by the opset that it needs."""

from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.emit.profile import Profile
from onnxsemi.emit.storage.native import RUNTIMES
from onnxsemi.plan import BitPlan

# https://onnxruntime.ai/docs/reference/compatibility.html
_OF_OPSET = {
    **{13: "1.6", 14: "1.8", 15: "1.10", 16: "1.11", 17: "1.12", 18: "1.14", 19: "1.15"},
    **{20: "1.17", 21: "1.18", 22: "1.21", 23: "1.22", 24: "1.23", 25: "1.24"},
}


def lowest_runtime(opset: int, profile: Profile, plan: BitPlan) -> str | None:
    """Version of ONNX Runtime; None if the model itself needs an opset that is not known here.

    >>> lowest_runtime(18, Profile.QDQ, BitPlan({"conv": (6, 4)}, {"conv": 9}))
    '1.14'
    >>> lowest_runtime(21, Profile.NATIVE, BitPlan({"conv": (6, 4)}, {"conv": 9}))
    '1.19'
    """
    if opset > max(_OF_OPSET):
        return None
    versions = [_OF_OPSET[max(opset, min(_OF_OPSET))]]
    if profile is Profile.NATIVE:
        used = {bits for channels in plan.bits.values() for bits in channels} - {FLOAT_BITS}
        versions += [version for bits, version in RUNTIMES.items() if bits in used]
    return max(versions, key=lambda version: tuple(map(int, version.split("."))))
