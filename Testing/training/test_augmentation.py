"""Jitter keeps what it must, and phases drop out as often as they should."""

from __future__ import annotations

import numpy as np
import torch
from PediatricLiverDxLib.composites import window
from PediatricLiverDxLib.vocabulary import PHASES

from training import augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_window_equals_that_of_the_library():
    hu = torch.linspace(-300, 400, 50).expand(1, 4, 1, 50).clone()
    for place, phase in enumerate(PHASES):
        np.testing.assert_allclose(augmentation.window(hu)[0, place, 0], window(hu[0, place, 0].numpy(), phase), atol=1e-6)


def test_zero_strength_changes_nothing():
    images = torch.rand(6, 4, 32, 32, generator=generator())
    torch.testing.assert_close(augmentation.jitter_window(images, generator(), 0.0), images)
    torch.testing.assert_close(augmentation.degrade(images.clone(), generator(), 0.0), images)


def test_the_same_generator_gives_the_same_images():
    images = torch.rand(16, 4, 32, 32, generator=generator())
    first, second = (augmentation.degrade(images.clone(), generator(3), 1.0) for _ in range(2))
    torch.testing.assert_close(first, second)
    assert not torch.equal(first, images)


def test_every_coalition_of_phases_occurs_and_the_full_one_most():
    kept = augmentation.draw_kept_phases(torch.ones(30_000, 4, dtype=torch.bool), generator(), 0.3)
    counts = torch.bincount((kept * 2 ** torch.arange(4)).sum(1), minlength=16) / len(kept)
    torch.testing.assert_close(counts[15], torch.tensor(0.7), atol=0.02, rtol=0)
    torch.testing.assert_close(counts[:15], torch.full((15,), 0.02), atol=0.005, rtol=0)


def test_an_absent_phase_never_comes_back():
    present = torch.tensor([[True, False, True, False]]).repeat(500, 1)
    assert not augmentation.draw_kept_phases(present, generator(), 0.5)[:, [1, 3]].any()
