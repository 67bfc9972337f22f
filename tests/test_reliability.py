"""How far single channels are trusted: on effects that are made up image by image."""

import numpy as np
import pytest

from onnxsemi._sensitivity.reliability import dependable

CHANNELS, BITS, FOLDS = 40, 4, 8


def made_up(images, own, seed=0):
    """KL of channels on folds of images, their rounding errors, and the truth.

    Args:
        images: How many; a channel's KL on one is exponential around its mean.
        own: How much the sensitivities of the channels of the layer differ, in nats' logarithms.
        seed: Of all of it.
    """
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.5, 2, (CHANNELS, 1)) * 4.0 ** np.arange(BITS)
    truth = errors * np.exp(own * rng.normal(size=(CHANNELS, 1)))
    seen = truth * rng.exponential(size=(images, CHANNELS, 1))
    folds = np.stack([seen[fold::FOLDS].mean(axis=0) for fold in range(min(FOLDS, images))])
    return folds, errors, truth


def error(found, truth):
    return float((((found - truth) / truth) ** 2).mean())


@pytest.mark.parametrize(("images", "own"), [(16, 0.1), (64, 0.3), (100, 0.2), (500, 0.8)])
def test_nearer_to_the_truth_than_estimate_and_rounding_error_alone(images, own):
    """On average of twelve layers."""
    errors_of = []
    for seed in range(12):
        folds, errors, truth = made_up(images, own, seed)
        mean = folds.mean(axis=0)
        base = errors * mean.sum(axis=0) / errors.sum(axis=0)
        found = dependable(folds, errors, images).nats
        errors_of.append([error(nats, truth) for nats in (found, mean, base)])
    drawn, estimate, rounding = np.mean(errors_of, axis=0)
    assert drawn < 1.05 * min(estimate, rounding)
    assert drawn < max(estimate, rounding) / 1.2


def test_more_images_are_trusted_more():
    weights = [dependable(*made_up(images, 0.5)[:2], images).weight for images in (16, 64, 1024)]
    assert weights == sorted(weights)
    assert weights[0] < 0.9 < weights[2]


def test_classes_that_are_not_shown():
    """One image a class, every row matters on its own image only: rows are not told apart."""
    images = np.arange(CHANNELS // 2)  # half of the classes
    seen = np.zeros((len(images), CHANNELS, 1))
    seen[images, images] = 1.0
    folds = np.stack([seen[fold::FOLDS].mean(axis=0) for fold in range(FOLDS)])
    found = dependable(folds, np.ones((CHANNELS, 1)), len(images))
    assert found.weight == 0
    assert found.nats == pytest.approx(folds.mean())


def test_a_channel_that_no_image_activates_is_not_free():
    folds, errors, _ = made_up(600, 0.8)
    folds[:, 3] = 0
    found = dependable(folds, errors, 600)
    base = errors[3] * folds.mean(axis=0).sum(axis=0) / errors.sum(axis=0)
    assert found.weight > 0.9
    assert (found.nats[3] >= 3 / 600 * base * (1 - 1e-12)).all()


def test_the_sum_of_a_layer_stays():
    """Where nothing is raised to the least, what is taken from some is given to others."""
    folds, errors, _ = made_up(200, 0.3)
    found = dependable(folds, errors, 200)
    assert found.nats.sum(axis=0) == pytest.approx(folds.mean(axis=0).sum(axis=0))


def test_a_single_image_says_nothing_of_channels():
    folds, errors, _ = made_up(1, 0.5)
    assert dependable(folds, errors, 1).weight == 0


def test_channels_that_lose_nothing():
    """A constant channel is rounded without an error: it costs nothing at any bitwidth."""
    folds, errors, _ = made_up(100, 0.3)
    folds[:, 5], errors[5] = 0, 0
    assert (dependable(folds, errors, 100).nats[5] == 0).all()
    nothing = dependable(np.zeros_like(folds), np.zeros_like(errors), 100)
    assert (nothing.nats == 0).all()
