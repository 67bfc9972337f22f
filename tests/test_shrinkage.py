"""How far second moments of few images are trusted, and what that is worth on other images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.second_moments import MomentSums
from onnxsemi._rounding.shrinkage import LEAST_DAMPING, MOST_SHRUNK, MomentSpread

SIZE = 60


BLOCK = 10


def blocks(count, seed, each=1):
    """Columns of images, ten images a block: float32[1, K, 10 * each].

    A common part, a mean, a part of each image, and a little of each of its patches.
    """
    rng = np.random.default_rng(seed)
    scale = np.random.default_rng(0).uniform(0.2, 2, (SIZE, 1))
    for _ in range(count // BLOCK):
        own = rng.normal(size=(SIZE, BLOCK)) + 0.4 * rng.normal(size=(1, BLOCK)) + 1
        patches = np.repeat(own, each, axis=1) + 0.3 * rng.normal(size=(SIZE, BLOCK * each))
        yield (patches * scale).astype(np.float32)[None]


def sums(count, seed, each=1):
    found = MomentSums(1, SIZE)
    for block in blocks(count, seed, each):
        found.add([found.block(block)])
    return found


def columns_of(count, seed):
    """float64[K, N]."""
    return np.concatenate(list(blocks(count, seed)), axis=2)[0].astype(np.float64)


def covariance(count, seed):
    return np.cov(columns_of(count, seed), bias=True)


def test_against_ledoit_and_wolf_in_numpy():
    """V from blocks, around the mean of the first of them."""
    count = 300
    columns = columns_of(count, 1)
    around = columns - columns[:, :BLOCK].mean(axis=1, keepdims=True)
    whole, number = around @ around.T / count, count // BLOCK
    parts = [part @ part.T - BLOCK * whole for part in np.split(around, number, axis=1)]
    error = sum(np.square(part).sum() for part in parts) / count**2 * number / (number - 1)
    cov = np.cov(columns, bias=True)
    level = np.trace(cov) / SIZE
    share = error / np.square(cov - level * np.eye(SIZE)).sum()
    expected = level * share / (1 - share)
    found = sums(count, 1).moments(centred=True).damping
    assert found == pytest.approx([expected], rel=1e-3)
    assert expected > LEAST_DAMPING * level


@pytest.mark.parametrize("count", [40, 120, 400])
def test_the_damped_covariance_is_nearer_to_the_true_one(count):
    """Of its scale apart, which means nothing to rounding; on average of eight samples."""
    true, found = covariance(20_000, seed=9), []
    for seed in range(8):
        moments = sums(count, seed=seed).moments(centred=True)
        damped, damping = moments.second[0].astype(np.float64), moments.damping[0]
        plain = damped - damping * np.eye(SIZE)
        level = np.trace(plain) / SIZE
        shrunk = damped * level / (level + damping)
        found.append([np.square(shrunk - true).sum(), np.square(plain - true).sum()])
    shrunk_error, plain_error = np.mean(found, axis=0)
    assert shrunk_error < plain_error


def test_the_more_images_the_less():
    found = [
        float(sums(count, seed=5).moments(centred=True).damping[0]) for count in (30, 300, 3000)
    ]
    assert found[0] > 3 * found[1] > 9 * found[2]


def test_patches_of_one_image_are_no_images():
    """Fifty like patches of each of 40 images: as little is known as of 40 columns."""
    alike, single = (sums(40, 7, each).moments(centred=True).damping[0] for each in (50, 1))
    many = sums(2000, 7).moments(centred=True).damping[0]
    assert alike > 0.5 * single > 3 * many


def test_a_single_block_is_shrunk_most():
    moments = sums(BLOCK, 0, each=30).moments(centred=True)
    level = np.trace(moments.second[0]) / SIZE - moments.damping[0]
    assert moments.damping[0] == pytest.approx(level * MOST_SHRUNK / (1 - MOST_SHRUNK), rel=1e-4)


def test_inputs_that_are_all_dead():
    found = MomentSums(1, 4)
    for _ in range(5):
        found.add([found.block(np.zeros((1, 4, 9), np.float32))])
    assert found.moments(centred=True).damping.tolist() == [0.0]


def test_given_damping_is_taken():
    found = sums(50, 0).moments(centred=True, damping=np.array([0.25]))
    plain = sums(50, 0).moments(centred=True, damping=np.zeros(1))
    off = found.second - plain.second
    assert np.allclose(off[0], 0.25 * np.eye(SIZE), atol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rounding_changes_the_output_on_other_images_less(bits):
    """Rounded on 40 images of 60 columns, looked at on others: less than with GPTQ's damping."""
    weight = np.random.default_rng(4).normal(size=(24, SIZE)).astype(np.float32)
    true, errors = covariance(20_000, seed=9), []
    gptq = LEAST_DAMPING * np.trace(covariance(40, seed=3)) / SIZE
    with ThreadPoolExecutor(1) as pool:
        for damping in (None, np.array([gptq])):
            moments = sums(40, seed=3).moments(centred=True, damping=damping)
            rounder = LayerRounder(moments, RoundingSettings(), Scheme.ASYMMETRIC, pool)
            change = rounder.at(weight, bits).dequantize().astype(np.float64) - weight
            errors.append(np.einsum("ok,kl,ol->", change, true, change))
    assert errors[0] < 0.8 * errors[1]


def test_spread_refuses_nothing_and_is_never_negative():
    """Blocks that are all alike say that C is exact."""
    spread, block = MomentSpread(), np.eye(4, dtype=np.float32) * 8
    for _ in range(6):
        spread.add(block, np.zeros(4), 8)
    second = np.eye(4, dtype=np.float32) * np.array([1, 1, 1, 1], np.float32)
    assert spread.damping(second, np.zeros(4)) == pytest.approx(LEAST_DAMPING)
