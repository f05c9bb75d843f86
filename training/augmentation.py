"""Intensity jitter that both trainings share: batches of HU or windowed images in, the same shape out, driven by one torch.Generator.

What differs between scanners, bodies and contrast protocols, rather than what differs between two runs of one phantom generator.
"""

from __future__ import annotations

import torch
from monai.networks.layers import GaussianFilter
from PediatricLiverDxLib.vocabulary import PHASES, WINDOWS
from torch.nn import functional

#: Level and width of each phase's window, shaped to meet (n, phase, row, column).
LEVELS = torch.tensor([WINDOWS[phase][0] for phase in PHASES]).view(1, -1, 1, 1)
WIDTHS = torch.tensor([WINDOWS[phase][1] for phase in PHASES]).view(1, -1, 1, 1)


def window(hu: torch.Tensor) -> torch.Tensor:
    """Map HU (n, phase, row, column) to [0, 1] in each phase's window, as PediatricLiverDxLib.composites.window does."""
    return ((hu - (LEVELS - WIDTHS / 2)) / WIDTHS).clamp_(0, 1)


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    """Draw float32 numbers from [low, high)."""
    return torch.rand(*shape, generator=generator) * (high - low) + low


def jitter_window(images: torch.Tensor, generator: torch.Generator, strength: float) -> torch.Tensor:
    """Shift and stretch each phase's HU, as another dose of contrast, timing or calibration would; images in window units.

    Per exam a common shift and gain, per phase further ones; the gain turns about the window's level. One width is about 270 HU.
    """
    n, phases = images.shape[:2]
    some = (torch.rand(n, 1, 1, 1, generator=generator) < 0.8).float() * strength
    common = torch.randn(2, n, 1, 1, 1, generator=generator)
    own = torch.randn(2, n, phases, 1, 1, generator=generator)
    shift = some * (0.03 * common[0] + 0.03 * own[0])
    gain = torch.exp(some * (0.08 * common[1] + 0.06 * own[1]))
    return (images - 0.5) * gain + (0.5 + shift)


def degrade(images: torch.Tensor, generator: torch.Generator, strength: float) -> torch.Tensor:
    """Blur some images, coarsen some, and add noise, white or correlated, to some; images (n, phase, row, column) in window units."""
    if strength <= 0:
        return images
    n = images.shape[0]
    kind = torch.rand(n, generator=generator)
    blurred = torch.nonzero(kind < 0.15).flatten()
    if len(blurred):
        sigma = float(uniform(generator, 0.4, 1.0 + 0.8 * strength, 1))
        images[blurred] = GaussianFilter(2, sigma)(images[blurred])
    coarse = torch.nonzero((kind >= 0.15) & (kind < 0.3)).flatten()
    if len(coarse):
        size = images.shape[-2:]
        small = functional.avg_pool2d(images[coarse], 2 + int(torch.randint(2, (1,), generator=generator)))
        images[coarse] = functional.interpolate(small, size=size, mode="bilinear", align_corners=False)
    noisy = torch.nonzero(torch.rand(n, generator=generator) < 0.5).flatten()
    if len(noisy):
        noise = torch.randn(images[noisy].shape, generator=generator)
        if torch.rand(1, generator=generator) < 0.6:
            # pooling leaves a third of the standard deviation
            noise = functional.avg_pool2d(noise, 3, 1, 1) * 3
        # mostly little noise: the square favours small standard deviations
        images[noisy] += noise * uniform(generator, 0.0, 1.0, len(noisy), 1, 1, 1).square() * (0.1 * strength)
    return images


def draw_kept_phases(present: torch.Tensor, generator: torch.Generator, dropout: float) -> torch.Tensor:
    """Draw which phases stay: present (n, 4) bool in, the same shape out.

    A share `dropout` of the images keeps a coalition that is uniform over all but the full one, the empty one included.
    """
    n, phases = present.shape
    dropped = torch.rand(n, generator=generator) < dropout
    coalition = torch.randint(2**phases - 1, (n,), generator=generator)
    members = (coalition[:, None] >> torch.arange(phases)) & 1 > 0
    return present & (members | ~dropped[:, None])
