"""Rounding to entropy-coded grids: levels, prices, steps; and bitwidths that codes fit in."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import BITS_TAKEN, CODED_BITS, EVERY_CODED, coded_ladder, width_of
from onnxsemi._quantizer.affine import Scheme, quantize
from onnxsemi._quantizer.coded import (
    LEVELS,
    ZERO,
    code_bits,
    code_lengths,
    coded_steps,
    nearest_coded,
    on_coded_grid,
)
from onnxsemi._quantizer.narrowing import narrowed
from onnxsemi._quantizer.rounded_plan import RoundedLayer
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.gptq import Factor, compensated, output_error, refined
from onnxsemi._rounding.grid import Grid
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.rate import RateGrid, rate_grid
from onnxsemi._rounding.second_moments import SecondMoments

RATE = RoundingSettings(method="rate")
ONE, TWO, THREE, SEVEN = map(width_of, (1.0, 2.0, 3.0, 7.0))
quickly = settings(deadline=None, derandomize=True)


def correlated(size, seed, samples=400):
    """Second moments of columns that share a common part: float32[size, size]."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(size, samples)) + 2 * rng.normal(size=(1, samples))
    second = columns @ columns.T / samples
    return (second + 0.02 * np.diag(second).mean() * np.eye(size)).astype(np.float32)


def weights(rows=6, size=40, seed=0):
    return np.random.default_rng(seed).laplace(size=(rows, size)).astype(np.float32)


def priced(weight, width, price):
    """Grids of one width whose bits cost as said."""
    grid = rate_grid(weight, np.full(len(weight), width))
    return replace(grid, price=np.full(len(weight), price, np.float32))


def values_of(bits, stored, row):
    """What a channel's codes stand for: float32[1, K]."""
    place = np.flatnonzero(np.flatnonzero(bits == bits[row]) == row)
    return stored[bits[row]].take(place).dequantize()


def moments_of(second):
    return SecondMoments(second[None], np.zeros((1, len(second))), np.full(1, 0.1))


class TestLevels:
    @pytest.mark.parametrize("width", EVERY_CODED)
    def test_no_weight_is_farther_than_half_a_step(self, width):
        weight = weights()
        found = nearest_coded(weight, width)
        error = np.abs(found.dequantize() - weight)
        assert (error <= found.scale[:, None] * (0.5 + 1e-4)).all()
        assert found.codes.min() >= 1
        assert found.codes.max() <= LEVELS

    def test_zero_stays_zero(self):
        weight = weights()
        weight[:, ::3] = 0
        assert (nearest_coded(weight, TWO).dequantize()[:, ::3] == 0).all()

    def test_the_largest_weight_has_a_level(self):
        weight = weights()
        weight[0, 0] = 1000
        found = nearest_coded(weight, SEVEN)
        assert found.dequantize()[0, 0] == pytest.approx(1000)

    def test_no_weights_at_all(self):
        found = nearest_coded(np.zeros((2, 5), np.float32), ONE)
        assert (found.codes == ZERO).all()
        assert (found.scale == 1).all()

    @pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
    def test_codes_do_not_hang_on_the_size_of_the_weights(self, factor):
        one, other = (
            nearest_coded(weights(), TWO),
            nearest_coded(np.float32(factor) * weights(), TWO),
        )
        assert (one.codes != other.codes).mean() < 0.01  # at the edges of steps

    def test_bits_fall_from_width_to_width(self):
        weight = np.random.default_rng(0).normal(size=(4, 5000)).astype(np.float32)
        bits = [
            float(code_lengths(found.codes)[found.codes].mean())
            for found in (nearest_coded(weight, width) for width in EVERY_CODED)
        ]
        assert bits == sorted(bits, reverse=True)
        for width, taken in zip(EVERY_CODED, bits, strict=True):
            if BITS_TAKEN[width] >= 2:  # below, the price counts
                assert taken == pytest.approx(BITS_TAKEN[width], abs=0.1)

    def test_channels_take_what_the_codes_of_all_say(self):
        codes = np.full((2, 8), ZERO, np.uint8)
        codes[1, :4] = ZERO + 1
        bits = code_bits(codes)
        assert bits == pytest.approx([np.log2(16 / 12), np.log2(16 / 12) / 2 + 1])


class TestNarrowed:
    @given(seed=st.integers(0, 50))
    @quickly
    def test_the_same_values_in_few_bits(self, seed):
        rng = np.random.default_rng(seed)
        widths = rng.choice([ONE, TWO, SEVEN, 0, 32], 12).astype(np.int8)
        weight = rng.normal(size=(12, 300)).astype(np.float32)
        weight[rng.random(12) < 0.2] = 0
        found = {
            width: nearest_coded(weight[widths == width], width)
            if width
            else quantize(weight[widths == 0], 0)
            for width in set(widths.tolist()) - {32}
        }
        if not found:
            return
        bits, stored = narrowed(widths, found)
        assert set(stored) == set(bits[widths != 32].tolist())
        for width, channels in found.items():
            rows = np.flatnonzero(widths == width)
            mine = np.concatenate(
                [
                    stored[bits[row]]
                    .take(np.flatnonzero(np.flatnonzero(bits == bits[row]) == row))
                    .dequantize()
                    for row in rows
                ]
            )
            assert mine.tobytes() == channels.dequantize().tobytes()
        assert (bits[widths == 32] == 32).all()
        for each, channels in stored.items():
            assert channels.bits == each
            assert (channels.zero_point == channels.centre).all()

    def test_channels_of_zeros_take_nothing(self):
        weight = weights(rows=40, size=100)
        weight[:20] = 0
        layer = RoundedLayer.of(weight, [TWO] * 40, {TWO: nearest_coded(weight, TWO)})
        assert set(layer.bits[:20]) == {0}
        assert 0 not in layer.bits[20:]
        assert (layer.weight == nearest_coded(weight, TWO).dequantize()).all()

    def test_widths_are_apart_where_that_is_worth_it(self):
        """Two widths of many weights are two groups; of few they are one."""
        for rows, groups in ((200, 2), (2, 1)):
            weight = weights(rows=rows, size=300)
            widths = np.repeat([ONE, SEVEN], rows // 2).astype(np.int8)
            halves = weight[: rows // 2], weight[rows // 2 :]
            found = dict(zip((ONE, SEVEN), map(nearest_coded, halves, (ONE, SEVEN)), strict=True))
            bits, stored = narrowed(widths, found)
            assert len(stored) == groups
            assert len(set(bits.tolist())) == groups

    def test_not_beside_bitwidths(self):
        weight = weights(rows=2)
        both = {4: quantize(weight[:1], 4), TWO: nearest_coded(weight[1:], TWO)}
        with pytest.raises(ValueError, match="bitwidths and coded widths in one layer"):
            RoundedLayer.of(weight, [4, TWO], both)


class TestChoice:
    @given(seed=st.integers(0, 200), price=st.floats(0, 3), importance=st.floats(0.01, 10))
    @quickly
    def test_no_candidate_costs_less(self, seed, price, importance):
        rng = np.random.default_rng(seed)
        weight = weights(rows=5, size=200, seed=seed)
        grid = priced(weight, rng.choice(EVERY_CODED), price)
        places = (rng.normal(size=5) * 4 + ZERO).astype(np.float32)
        held = rng.integers(1, LEVELS + 1, 5).astype(np.float32)
        weigh = np.float32(importance)

        def cost(codes):
            bits = grid.lengths[grid.table, codes.astype(int)].astype(np.float64)
            return weigh * (places.astype(np.float64) - codes) ** 2 + grid.price * bits

        least = cost(grid.choose(places, weigh, held))
        near = np.clip(np.rint(places), 1, LEVELS)
        for codes in (near, near - np.sign(near - ZERO), np.full(5, float(ZERO)), held):
            assert (least <= cost(codes) * (1 + 1e-5)).all()

    def test_without_a_price_the_nearest(self):
        weight, second = weights(), correlated(40, 1)
        grid = priced(weight, THREE, 0.0)
        plain = Grid(grid.step, grid.zero, grid.top)
        factor = Factor.of(second)
        codes = compensated(weight, factor, grid)[0]
        assert (codes == compensated(weight, factor, plain)[0]).all()
        finer = refined(weight, codes, second[None], grid, sweeps=2)
        assert (finer == refined(weight, codes, second[None], plain, sweeps=2)).all()

    def test_the_dearer_bits_are_the_fewer_are_taken(self):
        weight, second = weights(rows=20, size=60), correlated(60, 2)
        taken, errors = [], []
        for price in (0.0, 0.03, 0.1, 0.3, 1.0, 1e6):
            grid = priced(weight, ONE, price * float(Factor.of(second).spread[0]))
            codes = compensated(weight, Factor.of(second), grid)[0]
            codes = refined(weight, codes, second[None], grid, sweeps=2)
            taken.append(float(grid.lengths[0, codes.astype(int)].sum()))
            errors.append(float(output_error(weight, codes, second, grid).sum()))
        assert taken == sorted(taken, reverse=True)
        assert errors == sorted(errors)
        assert (codes == ZERO).all()  # zero is the commonest: at such a price nothing else is left

    def test_refined_costs_no_more(self):
        weight, second = weights(rows=8, size=30), correlated(30, 3)
        grid = priced(weight, TWO, float(Factor.of(second).spread[0]) * 0.07)

        def cost(codes):
            bits = grid.lengths[0, codes.astype(int)].sum(axis=1)
            error = output_error(weight, codes, second, grid).astype(np.float64)
            return error / np.square(grid.step) + grid.price * bits

        before = compensated(weight, Factor.of(second), grid)[0]
        after = refined(weight, before, second[None], grid, sweeps=3)
        assert (cost(after) <= cost(before) * (1 + 1e-4)).all()
        assert (after != before).any()


class TestLayer:
    def rounder(self, pool, size=64):
        return LayerRounder(moments_of(correlated(size, 4)), RATE, Scheme.SYMMETRIC, pool)

    def test_steps_fit_the_codes(self):
        """No other step of a channel changes the output less."""
        weight, second = weights(rows=9, size=64), correlated(64, 4)
        with ThreadPoolExecutor(1) as pool:
            found = self.rounder(pool).at(weight, ONE)
        codes = found.codes.astype(np.float32)

        def errors(scale):
            grid = replace(Grid.of(found), step=(found.scale * np.float32(scale)))
            return output_error(weight, codes, second, grid)

        for scale in (0.97, 1.03):
            assert (errors(scale) >= errors(1.0)).all()

    def test_the_same_whatever_the_threads(self):
        weight = weights(rows=700, size=64)
        widths = np.random.default_rng(0).choice(EVERY_CODED, 700)
        found = []
        for threads in (1, 3):
            with ThreadPoolExecutor(threads) as pool:
                rounder = self.rounder(pool)
                codes, grid = rounder.codes(weight, rate_grid(weight, widths))
                found.append(
                    (codes.tobytes(), grid.step.tobytes(), rounder.at(weight, TWO).codes.tobytes())
                )
        assert found[0] == found[1]

    def test_rows_without_bits_are_zero(self):
        weight = weights(rows=6, size=64)
        with ThreadPoolExecutor(1) as pool:
            codes, grid = self.rounder(pool).codes(
                weight, rate_grid(weight, np.array([TWO, 0] * 3))
            )
        assert (codes[1::2] == 0).all()
        assert (grid.zero[1::2] == 0).all()
        assert (codes[::2] != ZERO).any()

    def test_rows_of_several_widths_are_those_of_each(self):
        weight = weights(rows=30, size=64)
        widths = np.repeat([ONE, THREE], 15)
        with ThreadPoolExecutor(1) as pool:
            rounder = self.rounder(pool)
            both, _ = rounder.codes(weight, rate_grid(weight, widths))
            for width in (ONE, THREE):
                alone, _ = rounder.codes(weight, rate_grid(weight, np.full(30, width)))
                assert (both[widths == width] == alone[widths == width]).all()


class TestWidths:
    def test_a_plan_counts_about_what_they_take(self):
        plan = BitPlan({"a": [TWO, 0, 32], "b": [width_of(0.25)]}, {"a": 10, "b": 8})
        assert plan.weight_bits == 20 + 0 + 320 + 2

    @pytest.mark.parametrize(
        ("bits", "expected"),
        [((4, 2, 0), (4.0, 2.0, 0)), (tuple(range(8, 0, -1)), CODED_BITS[::-1])],
    )
    def test_ladders(self, bits, expected):
        assert tuple(float(BITS_TAKEN[w]) for w in coded_ladder(bits)) == expected
        assert coded_ladder(coded_ladder(bits)) == coded_ladder(bits)

    def test_grids_of_channels_follow_from_their_own_weights(self):
        weight = weights()
        for row in range(len(weight)):
            alone = coded_steps(weight[row : row + 1], TWO)
            assert alone[0] == coded_steps(weight, TWO)[row]

    def test_a_grid_keeps_its_kind(self):
        grid = rate_grid(weights(), np.full(6, TWO))
        assert isinstance(grid.rows(slice(0, 2)).shaped(-1, 1), RateGrid)
        assert on_coded_grid(np.full((1, 2), ZERO, np.uint8), np.ones(1, np.float32)).centre == ZERO
