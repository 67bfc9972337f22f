"""Bitwidths rounded up to blocks of channels."""

import json

import numpy as np
import pytest
from command_line import assert_one_line, compress_command, run
from hypothesis import given
from hypothesis import strategies as st

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.affine import Scheme, quantize
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._search.align import aligned


def layer_of(channels, seed=0):
    weight = np.random.default_rng(seed).normal(size=(channels, 3, 2, 2)).astype(np.float32)
    return TargetLayer("conv", weight)


def plan_of(bits):
    return BitPlan({"conv": tuple(bits)}, {"conv": 12})


@given(
    st.lists(st.sampled_from([2, 3, 4, 6, 8, 32]), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from(Scheme),
)
def test_multiples_but_for_the_widest_and_never_fewer_bits(bits, multiple, scheme):
    found = aligned(plan_of(bits), [layer_of(len(bits))], Nearest(scheme), multiple).listed()[
        "conv"
    ]
    assert all(after >= before for before, after in zip(bits, found, strict=True))
    assert set(found) <= set(bits)
    for value in set(found) - {max(found)}:
        assert found.count(value) % multiple == 0
    if multiple == 1:
        assert list(found) == bits


def test_the_channels_that_lose_most_are_raised():
    layer = layer_of(10)
    found = aligned(plan_of([4] * 9 + [8]), [layer], Nearest(Scheme.ASYMMETRIC), 8).listed()["conv"]
    change = quantize(layer.weight[:9], 4).dequantize().astype(np.float64) - layer.weight[:9]
    worst = int(np.argmax((change**2).sum(axis=(1, 2, 3))))
    assert [channel for channel in range(9) if found[channel] == 8] == [worst]


def test_what_is_raised_may_be_raised_again():
    bits = [4] * 3 + [6] * 6 + [8]
    found = aligned(plan_of(bits), [layer_of(10)], Nearest(Scheme.ASYMMETRIC), 4).listed()["conv"]
    assert (found.count(4), found.count(6), found.count(8)) == (0, 8, 2)


def test_other_layers_stay():
    plan = BitPlan({"conv": (4, 4, 8), "other": (4, 4, 8)}, {"conv": 12, "other": 12})
    found = aligned(plan, [layer_of(3)], Nearest(Scheme.ASYMMETRIC), 4)
    assert found.listed() == {"conv": (8, 8, 8), "other": (4, 4, 8)}


def channels_of_nodes(path):
    """Layer -> bitwidth -> channels, of the layers that are divided."""
    layers = json.loads(run("inspect", path, "--json").stdout)["layers"]
    return {
        layer["name"]: {group["bits"]: group["channels"] for group in layer["groups"]}
        for layer in layers
        if len(layer["groups"]) > 1
    }


@pytest.mark.slow
def test_compress_and_apply_round_up_alike(folder):
    more = ("--profile", "nodes", "--exclude", "dw", "--max-drop", "20")
    command = compress_command(folder, "aligned.onnx", *more, "--align", "4")
    document = json.loads(run(*command, "--json").stdout)
    plain = json.loads(run(*compress_command(folder, "plain.onnx", *more), "--json").stdout)
    sizes = channels_of_nodes(folder / "aligned.onnx")
    assert sizes
    for counts in sizes.values():
        assert all(count % 4 == 0 for bits, count in counts.items() if bits != max(counts))
    assert any(
        count % 4
        for counts in channels_of_nodes(folder / "plain.onnx").values()
        for count in counts.values()
    )
    search = document["search"]
    assert search["correct_before"] - search["correct_after"] <= 0.2 * search["images"]
    assert document["chosen"]["compression"] == document["plan"]["compression"]
    assert document["plan"]["compression"] < plain["plan"]["compression"]
    again = folder / "aligned-again.onnx"
    apply = ("apply", folder / "plain.plan.json", folder / "model.onnx", "-o", again)
    assert run(*apply, "--profile", "nodes", "--align", "4").exit_code == 0
    assert again.read_bytes() == (folder / "aligned.onnx").read_bytes()


@pytest.mark.parametrize("value", ["0", "-3"])
def test_blocks_of_no_channels(value, folder):
    result = run(*compress_command(folder, "no.onnx", "--align", value))
    assert_one_line(result, f"--align: {value} must be 1 or more")
    plan = folder / "small.plan.json"
    result = run("apply", plan, folder / "model.onnx", "-o", folder / "no.onnx", "--align", value)
    assert_one_line(result, f"--align: {value} must be 1 or more")
