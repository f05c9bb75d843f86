"""Balanced-MixUp draws as the paper says."""

from __future__ import annotations

import numpy as np

from training.sampling import draw_lambda, mix, one_hot, sample_classes, sample_instances

CLASSES_OF_SOURCES = np.array([0] * 60 + [1] * 5 + [2] * 30 + [3] * 2)
COMPOSITES = np.where(np.isin(CLASSES_OF_SOURCES, [1, 3]), 81, 3)


def test_lambda_has_the_moments_of_beta_2_2():
    drawn = draw_lambda(np.random.default_rng(0), 200_000)
    # Beta(2, 2): mean 1/2, variance 1/20, fourth central moment 3/560
    assert abs(drawn.mean() - 0.5) < 0.003
    assert abs(drawn.var() - 0.05) < 0.001
    assert abs(((drawn - 0.5) ** 4).mean() - 3 / 560) < 0.0002


def test_instance_sampling_makes_every_composite_equally_likely():
    drawn = sample_instances(np.random.default_rng(1), COMPOSITES, 200_000)
    share = np.bincount(drawn, minlength=len(COMPOSITES)) / len(drawn)
    np.testing.assert_allclose(share, COMPOSITES / COMPOSITES.sum(), atol=0.003)


def test_class_sampling_makes_every_class_equally_likely():
    drawn = CLASSES_OF_SOURCES[sample_classes(np.random.default_rng(2), CLASSES_OF_SOURCES, COMPOSITES, 100_000)]
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 0.25, atol=0.006)


def test_class_sampling_without_a_class_shares_among_the_others():
    classes = np.array([0, 0, 0, 2])
    drawn = classes[sample_classes(np.random.default_rng(3), classes, np.ones(4), 20_000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), [0.5, 0, 0.5, 0], atol=0.02)


def test_mix_is_linear_in_images_and_labels():
    images = np.stack([np.full((4, 2, 2), 1.0), np.full((4, 2, 2), 3.0)])
    weight = np.array([0.25, 1.0])
    np.testing.assert_allclose(mix(images, images[::-1], weight)[:, 0, 0, 0], [0.25 * 1 + 0.75 * 3, 3])
    labels = mix(one_hot(np.array([0, 1])), one_hot(np.array([2, 2])), weight)
    np.testing.assert_allclose(labels, [[0.25, 0, 0.75, 0], [0, 1, 0, 0]])
