"""Error-compensating rounding, coordinate descent, ranges, and the moments that they go by."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.gptq import Factor, compensated, output_error, refined
from onnxsemi._rounding.grid import Grid, nearest, values
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.ranges import (
    HALF_STEP_BITS,
    candidates,
    likely,
    minmax_grid,
    squared_error,
)
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments


def correlated(size, seed, samples=400):
    """Second moments of columns that share a common part: float32[size, size]."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(size, samples)) + 2 * rng.normal(size=(1, samples))
    columns *= rng.uniform(0.2, 2, (size, 1))
    second = columns @ columns.T / samples
    return (second + 0.02 * np.diag(second).mean() * np.eye(size)).astype(np.float32)


def problem(rows, size, bits, seed):
    weight = np.random.default_rng(seed + 1).normal(size=(rows, size)).astype(np.float32)
    return weight, correlated(size, seed), minmax_grid(weight, bits, Scheme.ASYMMETRIC)


def plainly(weight, second, grid, order):
    """Optimal Brain Surgeon, weight by weight, with the inverse of what is left each time."""
    damped = second.astype(np.float64)
    left, codes, total = weight.astype(np.float64).copy(), np.zeros(weight.shape), 0
    for place, j in enumerate(order):
        rest = order[place:]
        inverse = np.linalg.inv(damped[np.ix_(rest, rest)])
        wanted = left[:, j].copy()
        codes[:, j] = np.clip(np.rint(wanted / grid.step + grid.zero), 0, grid.top)
        error = (wanted - (codes[:, j] - grid.zero) * grid.step) / inverse[0, 0]
        total = total + error**2 * inverse[0, 0]
        left[:, rest] -= error[:, None] * inverse[0]
    return codes, total


class TestGroups:
    """Several groups at once give the codes of each by itself."""

    @pytest.mark.parametrize(("groups", "rows", "size"), [(1, 5, 9), (7, 1, 9), (5, 3, 40)])
    def test_of_each_function(self, groups, rows, size):
        problems = [problem(rows, size, 3, seed=n) for n in range(groups)]
        weights, seconds, grids = zip(*problems, strict=True)
        weight, second, grid = np.concatenate(weights), np.stack(seconds), Grid.joined(grids)
        second[0, 2], second[0, :, 2] = 0, 0  # a dead input of one group
        factor = Factor.joined([Factor.of(own) for own in second])
        codes, total = compensated(weight, factor, grid)
        finer = refined(weight, codes, second, grid, sweeps=2)
        error = output_error(weight, finer, second, grid)
        gain = factor.solved(weight.astype(np.float64))
        for n in range(groups):
            chosen, own = slice(n * rows, (n + 1) * rows), Factor.of(second[n])
            alone, cost = compensated(weights[n], own, grids[n])
            assert codes[chosen].tobytes() == alone.tobytes()
            np.testing.assert_allclose(total[chosen], cost, rtol=1e-5)
            better = refined(weights[n], alone, second[n], grids[n], sweeps=2)
            assert finer[chosen].tobytes() == better.tobytes()
            least = output_error(weights[n], better, second[n], grids[n])
            np.testing.assert_allclose(error[chosen], least, rtol=1e-5)
            expected = own.solved(weights[n].astype(np.float64))
            np.testing.assert_allclose(gain[chosen], expected, rtol=1e-12)

    @pytest.mark.parametrize(("groups", "each"), [(600, 1), (3, 150), (2, 300)])
    def test_of_a_layer_whatever_its_blocks(self, groups, each):
        """Many groups in a block, one in a block, several blocks of one group."""
        weight = np.random.default_rng(0).normal(size=(groups * each, 4)).astype(np.float32)
        second = np.stack([correlated(4, seed=n) for n in range(groups)])
        with ThreadPoolExecutor(2) as pool:
            rounder, *alone = (
                LayerRounder(
                    SecondMoments(part, np.zeros((len(part), 4)), np.zeros(len(part))),
                    RoundingSettings(),
                    Scheme.ASYMMETRIC,
                    pool,
                )
                for part in (second, *np.split(second, groups))
            )
            found = rounder.at(weight, 3)
            expected = [
                one.at(part, 3) for one, part in zip(alone, np.split(weight, groups), strict=True)
            ]
        for name in ("codes", "scale", "zero_point"):
            joined = np.concatenate([getattr(part, name) for part in expected])
            assert getattr(found, name).tobytes() == joined.tobytes()


class TestCompensated:
    @pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
    @pytest.mark.parametrize("size", [1, 7, 32, 75])
    def test_against_brain_surgeon_weight_by_weight(self, size, bits):
        weight, second, grid = problem(5, size, bits, seed=size)
        factor = Factor.of(second)
        codes, total = compensated(weight, factor, grid)
        expected, error = plainly(weight, second, grid, factor.order[0])
        # float32 sums may tip a weight that lies between two levels, and all behind it in its row
        same = (codes == expected).all(axis=1)
        assert same.mean() >= 0.6
        np.testing.assert_allclose(total[same], error[same], rtol=1e-3)

    def test_error_is_that_of_the_moments(self):
        weight, second, grid = problem(6, 40, 3, seed=0)
        codes, total = compensated(weight, Factor.of(second), grid)
        np.testing.assert_allclose(total, output_error(weight, codes, second, grid), rtol=1e-3)

    def test_of_independent_inputs_it_is_the_nearest_level(self):
        weight, _, grid = problem(6, 40, 3, seed=0)
        second = np.diag(np.random.default_rng(0).uniform(0.5, 2, 40)).astype(np.float32)
        codes, _ = compensated(weight, Factor.of(second), grid)
        assert (codes == nearest(weight, grid)).all()

    @pytest.mark.parametrize("bits", [2, 3, 4, 6])
    def test_changes_the_output_less_than_the_nearest_level(self, bits):
        weight, second, grid = problem(64, 60, bits, seed=bits)
        codes, _ = compensated(weight, Factor.of(second), grid)
        mine = output_error(weight, codes, second, grid).sum()
        assert mine < 0.6 * output_error(weight, nearest(weight, grid), second, grid).sum()

    def test_inputs_that_never_vary(self):
        """A dead input has no second moment: its weight is rounded, the others stay right."""
        weight, second, grid = problem(4, 20, 4, seed=3)
        second[5], second[:, 5] = 0, 0
        codes, _ = compensated(weight, Factor.of(second), grid)
        assert np.isfinite(codes).all()
        assert (codes >= 0).all()
        assert (codes <= grid.top[:, None]).all()

    def test_all_inputs_dead(self):
        weight, _, grid = problem(4, 20, 4, seed=3)
        codes, _ = compensated(weight, Factor.of(np.zeros((20, 20), np.float32)), grid)
        assert (codes == nearest(weight, grid)).all()

    def test_solved(self):
        second = correlated(30, seed=1)
        rows = np.random.default_rng(0).normal(size=(3, 30))
        found = Factor.of(second).solved(rows)
        np.testing.assert_allclose(found @ second, rows, atol=1e-3 * np.abs(rows).max())

    def test_refuses_what_is_no_second_moment(self):
        with pytest.raises(ValueError, match="positive definite"):
            Factor.of(-np.eye(4, dtype=np.float32) * 1e6)


class TestRefined:
    @given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4]))
    @settings(max_examples=30, deadline=None)
    def test_never_worse(self, seed, bits):
        weight, second, grid = problem(5, 12, bits, seed)
        begin = nearest(weight, grid)
        codes = refined(weight, begin, second, grid, sweeps=3)
        before, after = (output_error(weight, c, second, grid) for c in (begin, codes))
        assert (after <= before * (1 + 1e-4) + 1e-6).all()
        assert (codes >= 0).all()
        assert (codes <= grid.top[:, None]).all()

    def test_ends_where_no_single_code_is_better(self):
        weight, second, grid = problem(3, 10, 3, seed=5)
        codes = refined(weight, nearest(weight, grid), second, grid, sweeps=100)
        best = output_error(weight, codes, second, grid)
        for column in range(10):
            for step in (-1, 1):
                other = codes.copy()
                other[:, column] = np.clip(other[:, column] + step, 0, grid.top)
                assert (output_error(weight, other, second, grid) >= best * (1 - 1e-4)).all()

    def test_no_sweep_changes_nothing(self):
        weight, second, grid = problem(3, 10, 3, seed=5)
        codes = nearest(weight, grid)
        assert (refined(weight, codes, second, grid, sweeps=0) == codes).all()


class TestLayers:
    @pytest.mark.parametrize("groups", [1, 2, 6])
    @pytest.mark.parametrize("ranges", ["minmax", "mse", "output"])
    def test_groups_are_rounded_alone(self, groups, ranges):
        rng = np.random.default_rng(groups)
        weight = rng.normal(size=(12, 3, 3)).astype(np.float32)
        second = np.stack([correlated(9, seed) for seed in range(groups)])
        how = RoundingSettings(ranges=ranges)
        with ThreadPoolExecutor(2) as pool:
            whole = rounder(second, how, pool).at(weight, 3)
            each = 12 // groups
            for group in range(groups):
                rows = slice(group * each, (group + 1) * each)
                alone = rounder(second[group : group + 1], how, pool).at(weight[rows], 3)
                assert (whole.codes[rows] == alone.codes).all()
                assert (whole.scale[rows] == alone.scale).all()
                assert (whole.zero_point[rows] == alone.zero_point).all()

    @pytest.mark.parametrize("bits", range(1, 9))
    def test_threads_change_nothing(self, bits):
        weight = np.random.default_rng(0).normal(size=(700, 12)).astype(np.float32)
        second = correlated(12, seed=0)[None]
        found = []
        for threads in (1, 3):
            with ThreadPoolExecutor(threads) as pool:
                found.append(rounder(second, RoundingSettings(), pool).at(weight, bits))
        assert (found[0].codes == found[1].codes).all()
        assert found[0].scale.tobytes() == found[1].scale.tobytes()

    @pytest.mark.parametrize("scheme", Scheme)
    @pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
    def test_output_ranges_are_the_best_of_those_that_are_likely(self, bits, scheme):
        weight = np.random.default_rng(0).normal(size=(8, 30)).astype(np.float32)
        second = correlated(30, seed=0)
        factor = Factor.of(second)
        with ThreadPoolExecutor(1) as pool:
            chosen = LayerRounder(
                SecondMoments(second[None], np.zeros((1, 30)), np.zeros(1)),
                RoundingSettings(),
                scheme,
                pool,
            ).at(weight, bits)
        every = candidates(weight, bits, scheme, halves=True)
        weights = np.broadcast_to(np.diag(second), weight.shape)
        quick = [squared_error(weight, nearest(weight, grid), grid, weights) for grid in every]
        least = compensated(weight, factor, Grid.of(chosen))[1]
        for other in likely(every, np.stack(quick), bits):
            assert (least <= compensated(weight, factor, other)[1] * (1 + 1e-4)).all()
        best = np.min([compensated(weight, factor, grid)[1] for grid in every], axis=0)
        assert least.sum() <= 1.1 * best.sum()

    @pytest.mark.parametrize("scheme", Scheme)
    @pytest.mark.parametrize("bits", range(1, 9))
    def test_zero_points(self, bits, scheme):
        weight = np.random.default_rng(0).normal(size=(8, 30)).astype(np.float32)
        for grid in candidates(weight, bits, scheme, halves=True):
            assert ((2 * grid.zero) % 1 == 0).all()
            assert (grid.zero >= 0).all()
            assert (grid.zero <= grid.top).all()
            if bits > HALF_STEP_BITS:
                assert (grid.zero % 1 == 0).all()
            if scheme is Scheme.SYMMETRIC:
                centre = (2**bits - 1) / 2 if bits <= HALF_STEP_BITS else 2 ** (bits - 1)
                assert (grid.zero == centre).all()
        if bits > 1:
            whole = candidates(weight, bits, scheme, halves=False)
            assert all((grid.zero % 1 == 0).all() for grid in whole)

    @pytest.mark.parametrize("scheme", Scheme)
    @pytest.mark.parametrize("bits", range(1, 9))
    @pytest.mark.parametrize("value", [0.0, 0.7, -1e-3, 3e4])
    def test_rows_of_one_value_survive(self, bits, scheme, value):
        weight = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
        weight[2] = np.float32(value)
        with ThreadPoolExecutor(1) as pool:
            second = correlated(9, seed=0)
            moments = SecondMoments(second[None], np.zeros((1, 9)), np.zeros(1))
            quantized = LayerRounder(moments, RoundingSettings(), scheme, pool).at(weight, bits)
        found = quantized.dequantize()[2]
        tiny = value == 0 and scheme is Scheme.SYMMETRIC and bits <= HALF_STEP_BITS
        assert (np.abs(found - np.float32(value)) <= (1e-36 if tiny else 0)).all()


def rounder(second, how, pool):
    mean, damping = np.zeros(second.shape[:2]), np.zeros(len(second))
    return LayerRounder(SecondMoments(second, mean, damping), how, Scheme.ASYMMETRIC, pool)


class TestMoments:
    @pytest.mark.parametrize("centred", [True, False])
    @pytest.mark.parametrize("groups", [1, 2])
    def test_against_numpy(self, groups, centred):
        rng = np.random.default_rng(0)
        columns = (rng.normal(size=(groups, 6, 500)) + 1).astype(np.float32)
        distance = rng.normal(size=(4, 500)).astype(np.float32) + np.float32(0.3)
        sums, apart = MomentSums(groups, 6, 4), MomentSums(groups, 6, 4)
        for rows in (slice(200), slice(200, 500)):
            sums.add([sums.block(columns[..., rows], distance[:, rows])])
            parts = [
                apart.block(columns[[g]][..., rows], own[:, rows], slice(g, g + 1))
                for g, own in enumerate(np.split(distance, groups))
            ]
            apart.add(parts)
        found = sums.moments(centred=centred, damping=np.zeros(groups))
        for group in range(groups):
            x, d = columns[group].astype(float), np.split(distance.astype(float), groups)[group]
            if centred:
                x, d = x - x.mean(axis=1, keepdims=True), d - d.mean(axis=1, keepdims=True)
            np.testing.assert_allclose(found.second[group], x @ x.T / 500, atol=1e-4)
            rows = slice(group * len(d), (group + 1) * len(d))
            np.testing.assert_allclose(found.cross[rows], d @ x.T / 500, atol=1e-4)
        np.testing.assert_allclose(found.mean, columns.mean(axis=2), atol=1e-5)
        np.testing.assert_allclose(found.offset, distance.mean(axis=1), atol=1e-5)
        assert (
            apart.moments(centred=centred, damping=np.zeros(groups)).second.tobytes()
            == found.second.tobytes()
        )

    def test_what_the_mean_of_a_change_is(self):
        rng = np.random.default_rng(0)
        columns, change = rng.normal(size=(2, 3, 50)), rng.normal(size=(4, 3)).astype(np.float32)
        sums = MomentSums(2, 3)
        sums.add([sums.block(columns.astype(np.float32))])
        expected = np.concatenate(
            [change[:2] @ columns[0].mean(axis=1), change[2:] @ columns[1].mean(axis=1)]
        )
        found = sums.moments(centred=True).mean_output(change)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("groups", "bits"), [(1, 3), (1, 8), (4, 3)])
def test_refined_is_column_by_column_bit_for_bit(groups, bits):
    """However many columns are looked at at once; most are looked at with others."""
    weight, _, grid = problem(8, 100, bits, seed=0)
    second = np.stack([correlated(100, seed).astype(np.float32) for seed in range(groups)])
    codes, each = nearest(weight, grid), 8 // groups
    expected = codes.copy()
    split = (values(codes, grid) - weight).reshape(groups, each, -1)
    gradient = (split @ second).reshape(weight.shape)
    for _ in range(2):
        for column in range(100):
            own = np.repeat(second[:, column], each, axis=0)
            curvature = own[:, column] * grid.step
            code = np.rint(expected[:, column] - gradient[:, column] / curvature)
            code = np.minimum(np.maximum(code, 0), grid.top)
            steps = (code - expected[:, column]) * grid.step
            gradient += steps[:, None] * own
            expected[:, column] = code
    assert (expected != codes).any()
    assert np.array_equal(refined(weight, codes, second, grid, 2), expected)


def test_values_are_what_a_runtime_computes():
    weight, _, grid = problem(5, 9, 3, seed=0)
    codes = nearest(weight, grid)
    assert np.abs(values(codes, grid) - weight).max() <= grid.step.max() / 2 * (1 + 1e-5)
