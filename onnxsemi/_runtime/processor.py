"""What kind of processor this is, as far as it decides which kernels run, and so bits of results.

ONNX Runtime's kernels (MLAS) and the BLAS libraries look at what the processor can do when they are
loaded, and take the widest kernels that it runs. These add the same products in another order: the
sums differ in their last bits, codes at the border of two levels round the other way, and a search
may end elsewhere. What MLAS chooses by stands in :data:`FEATURES` (``core/mlas/lib/platform.cpp``);
OpenBLAS names the set of kernels that it took itself, as numpy does.

Nothing here fails where a system does not tell: what cannot be found is left out, and on Windows,
where nothing tells of AVX-VNNI and AMX, family and model of an x86 processor stand in for them.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from msgspec import Struct
from threadpoolctl import threadpool_info

from onnxsemi._runtime.providers import CPU, Provider, build

FEATURES: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "AVX": "avx hw.optional.avx1_0",
        "AVX2": "avx2 hw.optional.avx2_0",
        "FMA": "fma fma3 hw.optional.fma",
        "AVX_VNNI": "avx_vnni",
        "AVX_VNNI_INT8": "avx_vnni_int8",
        "AVX_NE_CONVERT": "avx_ne_convert",
        "AVX512F": "avx512f hw.optional.avx512f",
        "AVX512BW": "avx512bw hw.optional.avx512bw",
        "AVX512DQ": "avx512dq hw.optional.avx512dq",
        "AVX512VL": "avx512vl hw.optional.avx512vl",
        "AVX512_VNNI": "avx512_vnni avx512vnni hw.optional.avx512vnni",
        "AVX512_BF16": "avx512_bf16 avx512bf16",
        "AVX512_FP16": "avx512_fp16 avx512fp16",
        "AMX_INT8": "amx_int8",
        "AMX_BF16": "amx_bf16",
        "NEON": "neon asimd hw.optional.neon",
        "FP16": "asimdhp hw.optional.arm.FEAT_FP16",
        "DOTPROD": "asimddp hw.optional.arm.FEAT_DotProd",
        "I8MM": "i8mm hw.optional.arm.FEAT_I8MM",
        "BF16": "bf16 hw.optional.arm.FEAT_BF16",
        "SVE": "sve",
        "SVE2": "sve2",
        "SME": "sme hw.optional.arm.FEAT_SME",
        "SME2": "sme2 hw.optional.arm.FEAT_SME2",
    }.items()
}
"""Instruction sets that kernels are chosen by -> what numpy and Linux' ``/proc/cpuinfo`` call them,
in small letters, and macOS' ``sysctl``."""

_LEVELS = ("SVE2", "SVE", "AVX512_VNNI", "AVX512F", "AVX2", "AVX", "NEON")
_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_OUR_BLAS = {"numpy", "scipy", "numpy.libs", "scipy.libs"}
_CPUINFO = Path("/proc/cpuinfo")


class Processor(Struct, frozen=True, eq=False, forbid_unknown_fields=True, omit_defaults=True):
    """A kind of processor: two that compare equal run the same kernels, and give the same bits.

    Attributes:
        features: Architecture and instruction sets, of :data:`FEATURES`.
        libraries: Those whose kernels run: name, version, and which kernels they chose.
        name: What people call it; empty if that is not known. It decides nothing.
    """

    features: tuple[str, ...]
    libraries: tuple[str, ...]
    name: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Processor) and self._kernels == other._kernels

    def __hash__(self) -> int:
        return hash(self._kernels)

    @property
    def _kernels(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.features, self.libraries

    @classmethod
    def here(cls, provider: Provider = CPU) -> "Processor":
        """The one that this process runs on; with whatever else it measures on."""
        other = () if provider.on_cpu else (f"provider {provider.flag}",)
        return cls(tuple(_features()), (*_libraries(), *other), _name())

    @property
    def title(self) -> str:
        """For a table: name and the widest instruction set.

        >>> Processor(("x86_64", "AVX", "AVX2", "FMA"), (), "AMD EPYC, family 25 model 1").title
        'AMD EPYC, family 25 model 1; AVX2'
        """
        widest = next((level for level in _LEVELS if level in self.features), "")
        named = self.name or (self.features[0] if self.features else "unknown processor")
        return "; ".join(part for part in (named, widest) if part)

    def __str__(self) -> str:
        """Everything that decides, for messages.

        >>> str(Processor(("x86_64", "AVX"), ("openblas 0.3.31 Haswell",), "AMD EPYC"))
        'AMD EPYC, x86_64 AVX, openblas 0.3.31 Haswell'
        """
        parts = (self.name, " ".join(self.features), ", ".join(self.libraries))
        return ", ".join(part for part in parts if part) or "unknown processor"

    def beside(self, other: "Processor") -> str:
        """What tells it from another: name and features, or the libraries if those are the same.

        >>> new, old = (Processor(("x86_64",), (f"numpy {n}", "scipy 1")) for n in "21")
        >>> new.beside(old)
        'numpy 2'
        """
        if self.features != other.features:
            return str(Processor(self.features, (), self.name))
        own = [library for library in self.libraries if library not in other.libraries]
        return ", ".join(own) or "none of these libraries"


@dataclass(frozen=True)
class Origin:
    """The weights of a plan beside those that it gave where it was made.

    Attributes:
        same_weights: Whether they are the very same, bit for bit.
        there: Kind of processor that rounded them there; None if not known, or not one.
        here: Kind of processor that rounded them here.
    """

    same_weights: bool
    there: Processor | None
    here: Processor


def _features() -> Iterator[str]:
    """Architecture, then instruction sets."""
    machine = platform.machine().lower()
    yield _ARCHITECTURES.get(machine, machine) or "unknown"
    known = _known_to_numpy() | _known_to_system()
    yield from (name for name, words in FEATURES.items() if words & known)
    if sys.platform == "win32" and "avx2" in known:
        yield os.environ.get("PROCESSOR_IDENTIFIER", "unknown family")


def _known_to_numpy() -> set[str]:
    """Instruction sets that numpy found; it has no public way to ask but to print them."""
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            found: Mapping[str, bool] = import_module(module).__cpu_features__
        except (ImportError, AttributeError):
            continue
        return {name.lower() for name, there in found.items() if there}
    return set()


def _known_to_system() -> set[str]:
    """Words that the system has for what the processor can do."""
    if sys.platform == "darwin":
        names = {word for words in FEATURES.values() for word in words if word.startswith("hw.")}
        return {name for name in names if int.from_bytes(_sysctl(name), sys.byteorder) == 1}
    cpuinfo = _cpuinfo()
    return set(cpuinfo.get("flags", cpuinfo.get("features", "")).lower().split())


def _cpuinfo() -> dict[str, str]:
    """The first processor of Linux' ``/proc/cpuinfo``; empty elsewhere."""
    try:
        first, _, _ = _CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _sysctl(name: str) -> bytes:
    """A value of macOS' ``sysctl``; empty if there is none."""
    call = getattr(ctypes.CDLL(None), "sysctlbyname", None)
    buffer = ctypes.create_string_buffer(256)
    size = ctypes.c_size_t(len(buffer))
    if call is None or call(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return b""
    return buffer.raw[: size.value]


def _libraries() -> Iterator[str]:
    """ONNX Runtime, numpy with its kernels, scipy, and the BLAS libraries with theirs."""
    import scipy.linalg  # noqa: F401, PLC0415  what is not loaded yet is not listed

    config: Mapping[str, Any] = dict(np.show_config(mode="dicts"))
    simd = config.get("SIMD Extensions", {})
    chosen = [*simd.get("baseline", ()), *simd.get("found", ())][-1:]
    yield " ".join(("onnxruntime", build()))
    yield " ".join(("numpy", np.__version__, *chosen))
    yield " ".join(("scipy", version("scipy")))
    blas = config.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    if "accelerate" in str(blas).lower():  # threadpoolctl does not know it; it is macOS' own
        chip = _sysctl("machdep.cpu.brand_string").rstrip(b"\0").decode(errors="replace")
        yield " ".join(part for part in ("accelerate", platform.mac_ver()[0], chip) if part)
    yield from _blas(threadpool_info())


def _blas(loaded: Sequence[Mapping[str, Any]]) -> list[str]:
    """The BLAS libraries that numpy and scipy brought along; all, if they brought none.

    Other packages in the process may have loaded theirs, which nothing here calls.
    """
    every = [found for found in loaded if found.get("user_api") == "blas"]
    ours = [f for f in every if _OUR_BLAS & set(PurePath(f.get("filepath") or "").parts)]
    keys = ("internal_api", "version", "architecture")
    return sorted({" ".join(str(f[key]) for key in keys if f.get(key)) for f in ours or every})


def _name() -> str:
    """What people call the processor; empty if the system does not say."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string").rstrip(b"\0").decode(errors="replace")
    if sys.platform == "win32":
        return os.environ.get("PROCESSOR_IDENTIFIER", "")
    found = _cpuinfo()
    kinds = (("cpu family", "family"), ("model", "model"), ("cpu part", "part"))
    numbers = " ".join(f"{word} {found[key]}" for key, word in kinds if found.get(key))
    maker = found.get("cpu implementer")  # ARM has no name here, but a number
    name = found.get("model name") or (f"ARM implementer {maker}" if maker else "")
    return ", ".join(part for part in (name, numbers) if part)
