"""Plans with codes: nearest rounding is the quantizer's, and what does not fit is refused."""

from dataclasses import replace

import numpy as np
import pytest
from emitting import HalfSteps
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.affine import Scheme, fake_quantize, quantize
from onnxsemi._quantizer.rounded_plan import (
    Nearest,
    RoundedLayer,
    RoundedPlan,
    mixed_weight,
    rounded,
)

BITWIDTHS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 32]


def layer_of(channels, seed=0, name="conv"):
    weight = np.random.default_rng(seed).normal(size=(channels, 3, 2, 2)).astype(np.float32)
    return TargetLayer(name, weight)


def plan_of(*bits):
    names = [f"conv{place}" for place in range(len(bits))]
    return BitPlan(
        {name: tuple(found) for name, found in zip(names, bits, strict=True)},
        dict.fromkeys(names, 12),
    )


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.sampled_from(BITWIDTHS), min_size=1, max_size=12), min_size=1, max_size=3),
    st.sampled_from(Scheme),
)
def test_nearest_is_fake_quantize_bit_for_bit(bits, scheme):
    layers = [layer_of(len(b), seed, f"conv{seed}") for seed, b in enumerate(bits)]
    plan, rounding = plan_of(*bits), Nearest(scheme)
    found = rounded(layers, plan, rounding)
    assert (found.plan, found.scheme) == (plan, scheme)
    for layer in layers:
        of_layer, channel_bits = found.layers[layer.name], plan.bits[layer.name]
        expected = fake_quantize(layer.weight, channel_bits, scheme).tobytes()
        assert of_layer.weight.tobytes() == expected
        assert mixed_weight(layer, channel_bits, rounding).tobytes() == expected
        assert of_layer.bias is None
        assert not of_layer.weight.flags.writeable
        assert list(of_layer.quantized) == sorted(set(channel_bits) - {32})
        for value, channels in of_layer.quantized.items():
            alone = quantize(layer.weight[np.array(channel_bits) == value], value, scheme)
            assert channels.codes.tobytes() == alone.codes.tobytes()


def test_another_rounding():
    layer, rounding = layer_of(4), HalfSteps(Scheme.ASYMMETRIC)
    weight = mixed_weight(layer, (3, 32, 3, 5), rounding)
    assert weight[1].tobytes() == layer.weight[1].tobytes()
    assert weight[[0, 2]].tobytes() == rounding.at(layer, 3).dequantize()[[0, 2]].tobytes()
    assert weight[3].tobytes() == rounding.at(layer, 5).dequantize()[3].tobytes()


def test_what_does_not_fit():
    layer = layer_of(3)
    four = quantize(layer.weight, 4)
    with pytest.raises(ValueError, match="2 bitwidths for 3 channels"):
        mixed_weight(layer, (4, 4), Nearest(Scheme.ASYMMETRIC))
    with pytest.raises(ValueError, match="2 bitwidths for 3 channels"):
        RoundedLayer.of(layer.weight, (4, 4), {4: four})
    with pytest.raises(ValueError, match="not the channels at each bitwidth"):
        RoundedLayer.of(layer.weight, (4, 4, 4), {})
    with pytest.raises(ValueError, match="another bitwidth"):
        RoundedLayer.of(layer.weight, (5, 5, 5), {5: four})
    with pytest.raises(ValueError, match="bias of shape"):
        RoundedLayer.of(layer.weight, (4, 4, 4), {4: four}, np.zeros(2, np.float32))
    plan = plan_of((4, 4, 4))
    whole = RoundedLayer.of(layer.weight, (4, 4, 4), {4: four})
    with pytest.raises(ValueError, match="other bitwidths than the plan"):
        RoundedPlan(plan.with_bits("conv0", [1], 5), Scheme.ASYMMETRIC, {"conv0": whole})
    with pytest.raises(ValueError, match="'conv0': a symmetric grid is not centred"):
        RoundedPlan(plan, Scheme.SYMMETRIC, {"conv0": whole})


def test_a_bias_is_frozen_too():
    layer = layer_of(2)
    bias = np.ones(2, np.float32)
    found = RoundedLayer.of(layer.weight, (32, 32), {}, bias)
    assert not replace(found, bias=bias).bias.flags.writeable
