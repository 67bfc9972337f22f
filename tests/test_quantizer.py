"""The quantizer against its formula, the reference evaluator and ONNX Runtime."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx.reference import ReferenceEvaluator

from onnxsemi._quantizer.affine import QuantizedChannels, Scheme, fake_quantize, quantize
from onnxsemi._runtime.sessions import Session

BITS = range(2, 9)
finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=True)
weights = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=finite)
bits_and_schemes = pytest.mark.parametrize(
    ("bits", "scheme"), [(b, s) for b in BITS for s in Scheme], ids=str
)

SPECIAL = {
    "zeros": np.zeros((2, 5)),
    "constant": [[3.7] * 5, [-1e-3] * 5],
    "positive": [[1, 2, 3.5]],
    "negative": [[-1, -2, -3.5]],
    "outlier": [[1e-3, -1e-3, 2e-3, 1e4]],
    "one-weight": [[0.3], [-0.3], [0]],
    "subnormal": [[1e-44, -3e-45, 0]],
    "tiny": [[1e-37, -1e-38, 0]],
    "huge": [[1e38, -1e38, 1]],
    "rounds-outwards": [[-1.5, 1.5, 0.1]],  # min / s and max / s are halves at 2 bits
}


@bits_and_schemes
@settings(deadline=None, derandomize=True, max_examples=40)
@given(weight=weights)
def test_error_is_at_most_half_a_step(bits, scheme, weight):
    check_error_and_storage(weight, bits, scheme)


@pytest.mark.parametrize("name", SPECIAL)
@bits_and_schemes
def test_special_channels(bits, scheme, name):
    check_error_and_storage(np.array(SPECIAL[name], np.float32), bits, scheme)


def check_error_and_storage(weight, bits, scheme):
    quantized = quantize(weight, bits, scheme)
    scale = quantized.scale.astype(np.float64)[:, None]
    error = np.abs(quantized.dequantize().astype(np.float64) - weight)
    # Half a step; the float32 quotient and product each round by at most 2^-24 of 2^bits steps.
    assert (error <= scale * (0.5 + 2**bits * 2.0**-22)).all()
    assert (quantized.scale >= np.finfo(np.float32).tiny).all() or has_constant_channel(weight)
    assert (quantized.scale > 0).all()
    for stored in (quantized.codes, quantized.zero_point):
        assert stored.dtype == np.uint8
        assert stored.max() < 2**bits
    assert (quantized.dequantize()[weight == 0] == 0).all()


def has_constant_channel(weight):
    return (weight == weight[:, :1]).all(axis=1).any()


@pytest.mark.parametrize("value", [0.0, 3.7, -3.7, 1e-30, -2e38, 1.17e-38])
@bits_and_schemes
def test_constant_channel_survives_exactly(bits, scheme, value):
    weight = np.full((1, 4), value, np.float32)
    assert (quantize(weight, bits, scheme).dequantize() == weight).all()


def test_clips_to_two_to_the_b_levels_where_the_published_code_does_not():
    """min / s = -1.5 and max / s = 1.5 round outwards to -2 and 2: five levels for 2 bits."""
    weight = np.array([[-1.5, 1.5, -0.4, 0.6]], np.float32)
    quantized = quantize(weight, 2)
    assert quantized.scale.tolist() == [1.0]
    assert np.rint(weight).max() - np.rint(weight).min() == 4
    assert quantized.dequantize().tolist() == [[-2.0, 1.0, 0.0, 1.0]]


@bits_and_schemes
def test_exactly_two_to_the_b_levels_are_reached(bits, scheme):
    half = 2 ** (bits - 1)
    ends = (0, 1) if scheme is Scheme.ASYMMETRIC else (-half, half - 1)
    ramp = np.linspace(*ends, 5000, dtype=np.float32)[None]
    assert len(np.unique(quantize(ramp, bits, scheme).codes)) == 2**bits


@bits_and_schemes
def test_quantizing_again_moves_no_weight_by_more_than_rounding(bits, scheme):
    """The grid's end points are kept, so the second grid is the first up to float32 rounding."""
    weight = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    once = quantize(weight, bits, scheme).dequantize()
    if scheme is Scheme.SYMMETRIC:
        once[:, 0] = quantize(weight, bits, scheme).scale * -(2 ** (bits - 1))
    else:
        spread = np.array([0, 2**bits - 1]) - quantize(weight, bits).zero_point[:, None].astype(int)
        once[:, :2] = spread * quantize(weight, bits, scheme).scale[:, None]
    twice = quantize(once, bits, scheme).dequantize()
    assert np.abs(twice - once).max() <= 4 * np.spacing(np.abs(once).max())


@bits_and_schemes
def test_other_channels_are_bit_identical(bits, scheme):
    weight = np.random.default_rng(1).normal(size=(5, 3, 2, 2)).astype(np.float32)
    found = fake_quantize(weight, [32, bits, 32, 32, bits], scheme)
    assert found[[0, 2, 3]].tobytes() == weight[[0, 2, 3]].tobytes()
    for channel in (1, 4):
        alone = quantize(weight[[channel]], bits, scheme).dequantize()[0]
        assert found[channel].tobytes() == alone.tobytes()


@pytest.mark.parametrize("scheme", Scheme)
@settings(deadline=None, derandomize=True, max_examples=100)
@given(weight=weights)
def test_one_bit_keeps_signs_on_the_largest_magnitude(scheme, weight):
    quantized = quantize(weight, 1, scheme)
    assert quantized.doubled
    assert quantized.codes.max() <= 1
    largest = np.abs(weight).max(axis=1, keepdims=True)
    used = np.broadcast_to(largest, weight.shape) >= np.finfo(np.float32).tiny
    expected = np.where(weight >= 0, largest, -largest)
    assert (quantized.dequantize()[used] == expected[used]).all()
    if scheme is Scheme.SYMMETRIC:
        assert (quantized.zero_point == quantized.centre).all()


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("value", [3.7, -3.7, 1e-30, -2e38, 1.17e-38, 0.0])
def test_constant_channel_survives_one_bit_exactly(scheme, value):
    weight = np.full((1, 4), value, np.float32)
    found = quantize(weight, 1, scheme).dequantize()
    if value == 0 and scheme is Scheme.SYMMETRIC:  # two levels, evenly around zero
        assert np.abs(found).max() == np.finfo(np.float32).tiny
    else:
        assert (found == weight).all()


@st.composite
def doubled_channels(draw):
    bits = draw(st.integers(1, 7))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 9)))
    codes = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1)))
    last = 2 * (2**bits - 1)
    zero = draw(hnp.arrays(np.uint8, shape[:1], elements=st.integers(0, last)))
    scale = draw(hnp.arrays(np.float32, shape[:1], elements=st.floats(2**-20, 2**20, width=32)))
    return QuantizedChannels(codes, scale, zero, bits, doubled=True)


@settings(deadline=None, derandomize=True)
@given(doubled_channels())
def test_a_doubled_grid_is_the_grid_of_half_its_step(quantized):
    """Exact: halving a scale changes its exponent only."""
    values = quantized.dequantize()
    codes, zero = quantized.codes.astype(float), quantized.zero_point[:, None] / 2
    step = 2 * quantized.scale.astype(float)[:, None]
    assert (values == (step * (codes - zero)).astype(np.float32)).all()
    assert (quantized.units == 2 * quantized.codes.astype(int)).all()
    feeds = {"codes": quantized.units, "s": quantized.scale, "z": quantized.zero_point}
    assert ReferenceEvaluator(DEQUANTIZE).run(None, feeds)[0].tobytes() == values.tobytes()
    even = quantized.zero_point % 2 == 0
    plain = QuantizedChannels(
        quantized.codes[even],
        2 * quantized.scale[even],
        quantized.zero_point[even] // 2,
        quantized.bits,
    )
    assert (plain.dequantize() == values[even]).all()


CHANNELS = {
    "codes": np.zeros((2, 3), np.uint8),
    "scale": np.ones(2, np.float32),
    "zero_point": np.zeros(2, np.uint8),
    "bits": 2,
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"codes": np.full((2, 3), 4, np.uint8)}, "code 4 has more than 2 bits"),
        ({"codes": np.zeros((2, 3), np.int8)}, "codes of type int8"),
        ({"scale": np.ones(2)}, "scale of type float64"),
        ({"scale": np.array([1, 0], np.float32)}, "not positive and finite"),
        ({"scale": np.array([1, np.inf], np.float32)}, "not positive and finite"),
        ({"scale": np.ones(3, np.float32)}, "not one of each"),
        ({"zero_point": np.full(2, 4, np.uint8)}, "zero point 4 is beyond"),
        ({"zero_point": np.full(2, 7, np.uint8), "doubled": True}, "zero point 7 is beyond"),
        ({"bits": -1}, "-1 bits is outside 0 to 8"),
        ({"bits": 0, "codes": np.ones((2, 3), np.uint8)}, "code 1 has more than 0 bits"),
        ({"bits": 8, "doubled": True}, "8 bits on a doubled grid is outside 0 to 7"),
    ],
)
def test_channels_that_cannot_be(changed, message):
    with pytest.raises(ValueError, match=message):
        QuantizedChannels(**{**CHANNELS, **changed})


@pytest.mark.parametrize("scheme", Scheme)
def test_no_bits_are_zeros(scheme):
    quantized = quantize(np.full((2, 3), -1.5, np.float32), 0, scheme)
    assert quantized.dequantize().tobytes() == np.zeros((2, 3), np.float32).tobytes()
    assert (quantized.zero_point == quantized.centre).all()


def test_some_of_the_channels():
    quantized = quantize(np.arange(12, dtype=np.float32).reshape(3, 4), 1)
    found = quantized.take(np.array([2, 0]))
    assert found.doubled
    assert found.dequantize().tobytes() == quantized.dequantize()[[2, 0]].tobytes()


# The reference evaluator has these operators from opset 19 on; their meaning is that of 13.
DEQUANTIZE = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 19]>
    g (uint8[N,M] codes, float[N] s, uint8[N] z) => (float[N,M] w)
    { w = DequantizeLinear <axis = 0> (codes, s, z) }""")
QUANTIZE = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 19]>
    g (float[N,M] w, float[N] s, uint8[N] z) => (uint8[N,M] codes)
    { codes = QuantizeLinear <axis = 0> (w, s, z) }""")


@bits_and_schemes
def test_dequantize_is_the_operator(bits, scheme):
    weight = np.random.default_rng(bits).normal(size=(7, 33)).astype(np.float32)
    quantized = quantize(weight, bits, scheme)
    feeds = {"codes": quantized.codes, "s": quantized.scale, "z": quantized.zero_point}
    expected = quantized.dequantize().tobytes()
    assert (
        Session(DEQUANTIZE.SerializeToString(), optimize=False).run(feeds)["w"].tobytes()
        == expected
    )
    assert ReferenceEvaluator(DEQUANTIZE).run(None, feeds)[0].tobytes() == expected


@pytest.mark.parametrize("scheme", Scheme)
def test_eight_bit_codes_are_the_operators(scheme):
    weight = np.random.default_rng(3).normal(size=(7, 33)).astype(np.float32)
    quantized = quantize(weight, 8, scheme)
    feeds = {"w": weight, "s": quantized.scale, "z": quantized.zero_point}
    session = Session(QUANTIZE.SerializeToString(), optimize=False)
    assert (session.run(feeds)["codes"] == quantized.codes).all()
    assert (ReferenceEvaluator(QUANTIZE).run(None, feeds)[0] == quantized.codes).all()


@pytest.mark.parametrize("bits", [-1, 9, 32])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match="outside 0 to 8"):
        quantize(np.ones((1, 1), np.float32), bits)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value):
    with pytest.raises(ValueError, match="not finite"):
        quantize(np.array([[1, value]], np.float32), 8)


def test_one_bitwidth_a_channel():
    with pytest.raises(ValueError, match="3 bitwidths for 2 channels"):
        fake_quantize(np.ones((2, 2), np.float32), [8, 8, 8])


def test_results_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        quantize(np.ones((1, 2), np.float32), 8).codes[0, 0] = 0
