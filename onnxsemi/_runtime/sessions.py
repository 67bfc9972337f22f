"""ONNX Runtime's sessions. What else imports it are its calibrators and its execution providers.

Sessions for measuring run on one thread: several run side by side instead. ONNX Runtime's kernels
are then measured to give a row of a batch the same bits whatever the batch size. With two threads
inside one session that held only at full optimisation (ONNX Runtime 1.32, ResNet-20).
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxsemi._atomic_file import temporary_folder
from onnxsemi._errors import ModelError, one_line
from onnxsemi._runtime.providers import CPU, Provider

# ONNX Runtime never folds a DequantizeLinear by itself: it keeps it for integer kernels that a
# weights-only file does not use, and the Conv loses its constant, blocked-layout weight.
_FOLD_DEQUANTIZE = "session.disable_quant_qdq"
# A session keeps the memory of its widest tensors for its next run, until it is dropped: those of
# a ResNet-50 cut into 17 held 3.3 GB, and 2.1 GB with one allocator for all, which stays for good.
_SHARED_MEMORY = "session.use_env_allocators"
# A MatMul adds up in another order over a weight that it has packed, which only a stored one is:
# 1e-7 of difference, enough for an activation to fall on another level of its grid.
_NO_PACKING = "session.disable_prepacking"
_NO_SPINNING = "session.intra_op.allow_spinning"
# Without it, processors without VNNI sum products of uint8 and int8 in 16 bits, which overflow.
_EXACT_INTEGERS = "session.x64quantprecision"
_QUIET = 4  # ONNX Runtime's severity: fatal only; what it refuses is raised, not printed
InferenceSession = ort.InferenceSession
_PIXELS = "tensor(uint8)"
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_OPEN_AXIS = 32  # size of an axis that a model leaves open
_CPU = ["CPUExecutionProvider"]
REFUSALS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        member
        for member in vars(ort.capi.onnxruntime_pybind11_state).values()
        if isinstance(member, type) and issubclass(member, Exception)
    ),
)


def load_session(
    path: str | os.PathLike[str],
    session_options: ort.SessionOptions | None = None,
    providers: list[str] | None = None,
) -> ort.InferenceSession:
    """Open a file that onnxsemi wrote, at the full speed of the float32 model.

    The weights are unpacked and dequantized once, while the file loads, and stay in memory as
    float32 constants. A default ``InferenceSession`` gives the same outputs to float32 rounding,
    but dequantizes anew at every run.

    A file of profile int8 runs on integer kernels, as in a default session. On x86 processors whose
    instructions for them overflow (AVX2 and AVX-512 without VNNI), the slower ones that do not are
    taken, so that answers are those that were measured.

    Args:
        path: The ONNX file.
        session_options: Yours, left as they are but for ``session.disable_quant_qdq``, or
            ``session.x64quantprecision``.
        providers: Execution providers; the CPU by default.

    Raises:
        ModelError: If the file is missing or ONNX Runtime refuses it.
    """
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file")
    options = session_options or ort.SessionOptions()
    _set_quantization(options, integers=_on_integers(path))
    try:
        return ort.InferenceSession(os.fspath(path), options, providers or _CPU)
    except REFUSALS as error:
        raise ModelError(f"{path}: ONNX Runtime refuses it: {one_line(error)}") from error


def open_session(path: str | os.PathLike[str], *, threads: int, fold: bool) -> ort.InferenceSession:
    """A quiet session on the CPU, otherwise as a user's.

    Args:
        path: The ONNX file.
        threads: Threads of the session.
        fold: Open it as :func:`load_session` does.

    Raises:
        ModelError: If the file is missing or ONNX Runtime refuses it.
    """
    options = single_threaded()
    options.intra_op_num_threads = threads
    if fold:
        return load_session(path, options)
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file")
    try:
        return ort.InferenceSession(os.fspath(path), options, _CPU)
    except REFUSALS as error:
        raise ModelError(f"{path}: ONNX Runtime refuses it: {one_line(error)}") from error


def noise_feeds(session: ort.InferenceSession, batch: int) -> dict[str, NDArray[Any]]:
    """Seeded noise for a session's only input: standard normal, or any pixels for one of uint8.

    Args:
        session: The session.
        batch: Size of the first axis, if the model leaves it open; other open axes are 32 long.

    Raises:
        ModelError: If there are several inputs, or the input is neither of floats nor of uint8.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in (*_FLOATS, _PIXELS):
        found = ", ".join(f"{entry.name}: {entry.type}" for entry in inputs)
        raise ModelError(
            f"the model needs one input of floats or uint8 to be timed with noise, not {found}"
        )
    first, *rest = inputs[0].shape
    open_axes = [first if isinstance(first, int) else batch]
    shape = (*open_axes, *(size if isinstance(size, int) else _OPEN_AXIS for size in rest))
    rng = np.random.default_rng(0)
    if inputs[0].type == _PIXELS:
        return {inputs[0].name: rng.integers(0, 256, shape, np.uint8)}
    noise = rng.standard_normal(shape, np.float32)
    return {inputs[0].name: noise.astype(_FLOATS[inputs[0].type])}


class Session:
    """One single-threaded ONNX Runtime session; safe to run from several threads."""

    def __init__(
        self,
        model: bytes,
        provider: Provider = CPU,
        /,
        *,
        optimize: bool = True,
        folded: bool = True,
        shared: bool = False,
        integers: bool = False,
        threaded: bool = False,
    ) -> None:
        """Load a serialized model.

        Args:
            model: Serialized ONNX ModelProto.
            provider: What runs it.
            optimize: Full graph optimisation; ``False`` runs the graph exactly as written, and adds
                up alike whether a weight is stored or computed: a stored one is not packed.
            folded: Weights are dequantized once; ``False`` leaves that to each run, and what is
                behind it to the fusions of a default session.
            shared: Take memory from one allocator for all such sessions: for sessions that live
                side by side and run in turn.
            integers: Run quantized activations on integer kernels: the fastest of this processor
                whose sums are exact, so that every processor gives the same.
            threaded: As many threads as a default session has, which wait for work asleep.

        Raises:
            ModelError: If ONNX Runtime refuses the model.
            SettingsError: If the provider cannot be had.
        """
        options = single_threaded()
        if threaded:
            options.intra_op_num_threads = 0  # ONNX Runtime's own choice
            options.add_session_config_entry(_NO_SPINNING, "0")
        if folded or integers:
            _set_quantization(options, integers=integers)
        if shared:
            _share_memory()
            options.add_session_config_entry(_SHARED_MEMORY, "1")
        if not optimize:
            options.add_session_config_entry(_NO_PACKING, "1")
        options.graph_optimization_level = (
            ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            if optimize
            else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
        try:
            self._session = provider.open(model, options)
        except REFUSALS as error:
            raise ModelError(f"ONNX Runtime refuses the model: {one_line(error)}") from error
        entries = self._session.get_inputs()
        self.inputs = tuple(entry.name for entry in entries)
        self._pixels = frozenset(entry.name for entry in entries if entry.type == _PIXELS)
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs by name; what an input of uint8 is given may be floats of the same values.

        Raises:
            ModelError: If ONNX Runtime fails on the input.
        """
        feeds = self._fed(feeds)
        try:
            values = self._session.run(None, feeds)
        except REFUSALS as error:
            raise ModelError(f"ONNX Runtime cannot run the model: {one_line(error)}") from error
        return dict(zip(self.outputs, map(np.asarray, values), strict=True))

    def run_into(self, feeds: dict[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> None:
        """The same, with all outputs put where they are to be, which saves copies of them.

        Args:
            feeds: The inputs.
            found: Arrays of the outputs' shapes and types, each one piece of memory.

        Raises:
            ModelError: If ONNX Runtime fails on the input.
        """
        binding = self._session.io_binding()
        fed = {name: np.ascontiguousarray(value) for name, value in self._fed(feeds).items()}
        for bind, arrays in ((binding.bind_input, fed), (binding.bind_output, found)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except REFUSALS as error:
            raise ModelError(f"ONNX Runtime cannot run the model: {one_line(error)}") from error

    def _fed(self, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for name in self._pixels.intersection(feeds):
            feeds = feeds | {name: feeds[name].astype(np.uint8, copy=False)}
        return feeds


def fold(model: bytes) -> bytes:
    """Constants and BatchNormalization folded by ONNX Runtime's basic-level offline optimisation.

    Raises:
        ModelError: If ONNX Runtime refuses the model.
    """
    return _optimized(model, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC)


def fused(model: bytes) -> bytes:
    """The graph that a default session runs, before its layout is fitted to the processor.

    Raises:
        ModelError: If ONNX Runtime refuses the model.
    """
    return _optimized(model, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


def _optimized(model: bytes, level: ort.GraphOptimizationLevel) -> bytes:
    options = single_threaded()
    options.graph_optimization_level = level
    with temporary_folder() as folder:
        target = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(target)
        try:
            ort.InferenceSession(model, options, _CPU)
        except REFUSALS as error:
            raise ModelError(f"ONNX Runtime refuses the model: {one_line(error)}") from error
        return target.read_bytes()


def quantizes_activations(model: onnx.ModelProto) -> bool:
    """Whether integer kernels can run parts of a model."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _on_integers(path: str | os.PathLike[str]) -> bool:
    try:
        return quantizes_activations(onnx.load_model(path, load_external_data=False))
    except (OSError, DecodeError):
        return False  # no model, which is said where it is opened


def _set_quantization(options: ort.SessionOptions, *, integers: bool) -> None:
    if not integers:
        options.add_session_config_entry(_FOLD_DEQUANTIZE, "1")
    elif _integers_overflow():
        options.add_session_config_entry(_EXACT_INTEGERS, "1")


@cache
def _integers_overflow() -> bool:
    """Whether products of uint8 and int8 are summed in 16 bits, where two of them overflow."""
    count = 4  # products that one instruction sums
    largest = numpy_helper.from_array(np.full((count, 1), 127, np.int8), "b")
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "probe",
        [values("a", onnx.TensorProto.UINT8, [1, count])],
        [values("y", onnx.TensorProto.INT32, [1, 1])],
        [largest],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    session = ort.InferenceSession(model.SerializeToString(), single_threaded(), _CPU)
    (found,) = session.run(None, {"a": np.full((1, count), 255, np.uint8)})
    return int(np.asarray(found).item()) != count * 127 * 255


@cache
def _share_memory() -> None:
    """Register the process's allocator for sessions that ask for it."""
    where = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    with suppress(*REFUSALS):  # whoever uses this library has made one already
        ort.create_and_register_allocator(where, None)


def single_threaded() -> ort.SessionOptions:
    """Options of a quiet session on one thread."""
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return options
