"""Execution providers: what ONNX Runtime runs on while things are measured, and how it is set up.

A provider adds the same products in another order than the processor's own kernels, so that what is
measured differs in its last bits. What can be told to it is told, where its documentation says how:
float32 as float32, and the same answer each time.

CUDA: ``use_tf32`` is on unless it is switched off; ``cudnn_conv_algo_search`` EXHAUSTIVE, its
default, times the algorithms in the first run and may take another one each time, DEFAULT is a
fixed one; ``use_deterministic_compute`` of the session leaves reductions with atomic sums away.
OpenVINO: ``precision`` FP32, as it would compute in bfloat16 on processors that can; a stream a
thread, each of one thread, as it is with the sessions on the processor.

What a provider does not take runs on the processor, and ONNX Runtime says nothing of it:
:func:`nodes_run` counts.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from onnxsemi._atomic_file import temporary_folder
from onnxsemi._errors import SettingsError

_SUFFIX = "ExecutionProvider"
_PACKAGES = {
    "CUDA": "onnxruntime-gpu",
    "Tensorrt": "onnxruntime-gpu",
    "OpenVINO": "onnxruntime-openvino",
    "Dml": "onnxruntime-directml",
    "MIGraphX": "onnxruntime-migraphx",
    "ROCM": "onnxruntime-rocm",
    "QNN": "onnxruntime-qnn",
    "CANN": "onnxruntime-cann",
}
"""Provider -> the package with a build of ONNX Runtime that has it."""
_OPTIONS: Mapping[str, Callable[[int], dict[str, str]]] = {
    "CUDA": lambda _: {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"},
    "OpenVINO": lambda threads: {
        "device_type": "CPU",
        "precision": "FP32",
        "num_of_threads": str(threads),
        "num_streams": str(threads),
    },
}
"""Provider -> its options, for as many runs at once as there are threads."""


@dataclass(frozen=True)
class Provider:
    """An execution provider that this ONNX Runtime has.

    Attributes:
        name: As ONNX Runtime calls it, without ``ExecutionProvider``.
        threads: Runs at once of one session; they change no result.
    """

    name: str = "CPU"
    threads: int = 1

    @classmethod
    def named(cls, text: str, threads: int = 1) -> "Provider":
        """A provider by its name in any case, short or whole.

        >>> Provider.named("CPUExecutionProvider") == Provider.named("cpu") == CPU
        True

        Raises:
            SettingsError: If ONNX Runtime knows no such provider, or this one does not have it.
        """
        known = {name.lower(): name for name in map(_short, ort.get_all_providers())}
        there = [_short(name).lower() for name in ort.get_available_providers()]
        asked = text.lower().removesuffix(_SUFFIX.lower())
        runtime = f"{ort.package_name or 'onnxruntime'} {ort.__version__}"
        if asked not in known:
            raise SettingsError(
                f"`provider`: {text!r} is no execution provider of {runtime}, which has "
                f"{', '.join(there)} and knows {', '.join(sorted(known.keys() - set(there)))}"
            )
        if asked not in there:
            package = _PACKAGES.get(known[asked])
            needed = f"the package {package}" if package else "a build of ONNX Runtime with it"
            raise SettingsError(
                f"`provider` {asked}: {runtime} does not have it, but {', '.join(there)}; install "
                f"{needed} in place of {ort.package_name or 'onnxruntime'}"
            )
        return cls(known[asked], threads)

    @property
    def on_cpu(self) -> bool:
        """Whether it is the processor with ONNX Runtime's own kernels."""
        return self == CPU or self.name == CPU.name

    @property
    def flag(self) -> str:
        """As an option names it."""
        return self.name.lower()

    def open(self, model: bytes | str, options: ort.SessionOptions) -> ort.InferenceSession:
        """A session on it.

        Args:
            model: Serialized ONNX ModelProto, or path of a file.
            options: Of the session; what the provider needs is added.

        Raises:
            SettingsError: If ONNX Runtime cannot begin it, and would run on the processor instead.
        """
        if self.on_cpu:
            return ort.InferenceSession(model, options, [CPU.name + _SUFFIX])
        options.use_deterministic_compute = True
        own = _OPTIONS[self.name](self.threads) if self.name in _OPTIONS else {}
        providers = [(self.name + _SUFFIX, own), CPU.name + _SUFFIX]
        session = ort.InferenceSession(model, options, providers, enable_fallback=0)
        if self.name + _SUFFIX not in session.get_providers():
            raise SettingsError(
                f"`provider` {self.flag}: ONNX Runtime cannot begin it here, and would run on the "
                "processor instead: its device, driver or libraries are not there; leave "
                "`provider` away, or see ONNX Runtime's page on it"
            )
        return session


CPU = Provider()


def nodes_run(model: bytes, feeds: dict[str, NDArray[Any]], provider: Provider) -> Counter[str]:
    """Nodes that each provider runs of a model, by the provider's name; from one profiled run.

    What a provider has fused counts as one.

    Args:
        model: Serialized ONNX ModelProto.
        feeds: Its inputs.
        provider: Which one to run on.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = True
    with temporary_folder() as folder:
        options.profile_file_prefix = str(Path(folder) / "run")
        session = provider.open(model, options)
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = (event["args"].get("provider") for event in events if event.get("cat") == "Node")
    return Counter(_short(name) for name in ran if name)


def build() -> str:
    """The version of ONNX Runtime; of a build from another package, that too.

    >>> build().startswith(ort.__version__)
    True
    """
    package = ort.package_name or "onnxruntime"
    return ort.__version__ if package == "onnxruntime" else f"{ort.__version__} ({package})"


def _short(name: str) -> str:
    return name.removesuffix(_SUFFIX)
