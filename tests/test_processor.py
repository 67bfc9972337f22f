"""Kinds of processors: what tells them apart; digests of weights that they rounded."""

import os
import platform
import subprocess
import sys
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, RoundedPlan, rounded
from onnxsemi._runtime import processor
from onnxsemi._runtime.processor import Processor

OLD = Processor(("x86_64", "AVX", "AVX2", "FMA"), ("openblas 0.3.31 Haswell",), "AMD EPYC")
NEW = Processor((*OLD.features, "AVX512F"), ("openblas 0.3.31 SkylakeX",), "Intel Xeon")
LINUX_ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40

processor\t: 1
Features\t: fp asimd
"""
LINUX_X86 = """processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu avx fma avx2 avx512f avx512_vnni avx_vnni amx_int8 avx512vl

"""


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A system that says nothing: no file, no features in numpy, nobody's processor."""
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor, "_known_to_numpy", set)
    monkeypatch.setattr(platform, "machine", lambda: "")
    monkeypatch.delenv("PROCESSOR_IDENTIFIER", raising=False)
    return tmp_path / "cpuinfo"


class TestKind:
    def test_the_name_decides_nothing(self):
        assert msgspec.structs.replace(OLD, name="AMD Ryzen") == OLD
        assert hash(msgspec.structs.replace(OLD, name="")) == hash(OLD)

    @pytest.mark.parametrize("field", ["features", "libraries"])
    def test_everything_else_does(self, field):
        assert msgspec.structs.replace(OLD, **{field: getattr(NEW, field)}) != OLD

    def test_the_file(self):
        text = msgspec.json.encode(OLD)
        assert msgspec.json.decode(text, type=Processor) == OLD

    @pytest.mark.parametrize(
        "document",
        [None, [], "x", {}, {"features": [], "libraries": "x"}, {"features": [1], "libraries": []}],
        ids=str,
    )
    def test_what_is_no_processor(self, document):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(document, Processor)

    def test_words(self):
        assert OLD.title == "AMD EPYC; AVX2"
        assert NEW.title == "Intel Xeon; AVX512F"
        assert Processor(("riscv64",), ()).title == "riscv64"
        assert Processor((), ()).title == str(Processor((), ())) == "unknown processor"
        assert NEW.beside(OLD) == "Intel Xeon, x86_64 AVX AVX2 FMA AVX512F"
        assert (
            msgspec.structs.replace(OLD, libraries=NEW.libraries).beside(OLD)
            == "openblas 0.3.31 SkylakeX"
        )
        assert OLD.beside(OLD) == "none of these libraries"


class TestHere:
    def test_this_one(self):
        here = Processor.here()
        assert here == Processor.here()
        assert here.features[0] in (platform.machine().lower(), "x86_64", "aarch64")
        assert f"numpy {np.__version__}" in " ".join(here.libraries)
        assert set(here.features[1:]) <= set(processor.FEATURES) or sys.platform == "win32"

    def test_libraries_that_others_loaded_do_not_count(self):
        ours = {"user_api": "blas", "internal_api": "openblas", "version": "0.3.31"}
        loaded = [
            ours | {"filepath": "/env/numpy.libs/libopenblas.so", "architecture": "Zen"},
            ours | {"filepath": "/env/cv2.libs/libopenblas.so", "architecture": "Prescott"},
            {"user_api": "openmp", "internal_api": "openmp", "filepath": "/env/scipy.libs/libgomp"},
        ]
        assert processor._blas(loaded) == ["openblas 0.3.31 Zen"]
        assert processor._blas(loaded[1:]) == ["openblas 0.3.31 Prescott"]
        assert processor._blas([ours | {"version": None, "filepath": None}]) == ["openblas"]
        assert processor._blas([]) == []

    @pytest.mark.skipif(sys.platform != "linux", reason="environment of OpenBLAS on Linux")
    def test_kernels_that_openblas_is_told_to_take(self):
        """Another core type is another kind, on the same processor."""
        code = "from onnxsemi._runtime.processor import Processor; print(Processor.here())"
        environment = os.environ | {"OPENBLAS_CORETYPE": "Sandybridge"}
        command = [sys.executable, "-c", code]
        there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        if "openblas" not in there.stdout or platform.machine() != "x86_64":
            pytest.skip("no OpenBLAS that chooses by the processor")
        assert "Sandybridge" in there.stdout


class TestSystems:
    def test_one_that_says_nothing(self, bare):
        assert not bare.exists()
        here = Processor.here()
        assert here.features == ("unknown",)
        assert here.name == ""
        assert here.title == "unknown"

    @pytest.mark.parametrize(
        ("machine", "text", "features", "name"),
        [
            (
                "aarch64",
                LINUX_ARM,
                ("aarch64", "NEON", "DOTPROD", "I8MM", "BF16", "SVE"),
                "ARM implementer 0x41, part 0xd40",
            ),
            (
                "x86_64",
                LINUX_X86,
                (
                    *("x86_64", "AVX", "AVX2", "FMA", "AVX_VNNI", "AVX512F", "AVX512VL"),
                    *("AVX512_VNNI", "AMX_INT8"),
                ),
                "Intel(R) Xeon(R) Platinum 8481C, family 6 model 143",
            ),
            ("riscv64", "processor\t: 0\nuarch\t: sifive,u74-mc\n\n", ("riscv64",), ""),
            ("x86_64", "\0\xff no colons", ("x86_64",), ""),
        ],
        ids=["arm", "x86", "riscv", "nonsense"],
    )
    def test_linux(self, bare, monkeypatch, machine, text, features, name):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(platform, "machine", lambda: machine)
        bare.write_text(text)
        here = Processor.here()
        assert (here.features, here.name) == (features, name)

    def test_macos(self, bare, monkeypatch):
        values = {
            "hw.optional.neon": b"\1\0\0\0",
            "hw.optional.arm.FEAT_DotProd": b"\1\0\0\0",
            "hw.optional.arm.FEAT_I8MM": b"\0\0\0\0",
            "machdep.cpu.brand_string": b"Apple M2\0",
        }
        del bare
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(platform, "machine", lambda: "arm64")
        monkeypatch.setattr(processor, "_sysctl", lambda name: values.get(name, b""))
        here = Processor.here()
        assert here.features == ("aarch64", "NEON", "DOTPROD")
        assert here.title == "Apple M2; NEON"

    def test_windows(self, bare, monkeypatch):
        """The model stands in for what nothing tells there."""
        del bare
        named = "Intel64 Family 6 Model 183 Stepping 1, GenuineIntel"
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(platform, "machine", lambda: "AMD64")
        monkeypatch.setattr(processor, "_known_to_numpy", lambda: {"avx", "avx2", "fma3"})
        monkeypatch.setenv("PROCESSOR_IDENTIFIER", named)
        here = Processor.here()
        assert here.features == ("x86_64", "AVX", "AVX2", "FMA", named)
        assert here.title == f"{named}; AVX2"

    @pytest.mark.skipif(sys.platform == "darwin", reason="there it is")
    def test_sysctl_where_there_is_none(self):
        assert processor._sysctl("no.such.value") == b""

    def test_numpy_that_does_not_tell(self, monkeypatch):
        monkeypatch.setattr(processor, "import_module", lambda _: object())
        assert processor._known_to_numpy() == set()


def some_plan(change: str = "") -> RoundedPlan:
    """Two layers; one value of them changed."""
    weights = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    layers = [TargetLayer("a", weights), TargetLayer("b", weights[:3])]
    plan = BitPlan({"a": (8, 4, 4, 32), "b": (2, 2, 3)}, {"a": 6, "b": 6})
    made = rounded(layers, plan, Nearest(Scheme.ASYMMETRIC))
    layer = made.layers["a"]
    channels, weight, bias = layer.quantized[4], layer.weight, layer.bias
    if change in ("codes", "scale", "zero_point"):
        values = getattr(channels, change).copy()
        place, step = {"codes": (3, 1), "scale": (1, 1e-3), "zero_point": (0, 1)}[change]
        values.flat[place] += step
        channels = replace(channels, **{change: values})
    if change == "doubled":
        channels = replace(channels, doubled=True)
    if change == "float channel":
        weight = weight.copy()
        weight[3, 0] = np.nextafter(weight[3, 0], np.float32(9))
    if change == "bias":
        bias = np.zeros(4, np.float32)
    layer = replace(layer, quantized={**layer.quantized, 4: channels}, weight=weight, bias=bias)
    return replace(made, layers={**made.layers, "a": layer})


class TestDigest:
    CHANGES = ("codes", "scale", "zero_point", "doubled", "float channel", "bias")

    @pytest.mark.parametrize("change", CHANGES)
    def test_one_changed_value_is_another_digest(self, change):
        assert some_plan(change).sha256 != some_plan().sha256

    def test_it_is_the_same_again(self):
        assert some_plan().sha256 == some_plan().sha256
        assert len({some_plan(change).sha256 for change in self.CHANGES}) == len(self.CHANGES)
