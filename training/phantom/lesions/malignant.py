"""What malignant tumours share: viable tissue with uneven uptake, dead parts, bleeding, a capsule."""

from __future__ import annotations

import numpy as np

from .tumour import Tumour, above


def necrosis(tumour: Tumour, fraction: float, offset: float, scale: float) -> np.ndarray:
    """Dead regions 0..1 covering about `fraction` of the lesion, ragged, preferring one off-centre side or the middle.

    offset: 0 prefers the middle, 1 one side. scale: size of the regions as a fraction of the radius.
    """
    if fraction < 0.01:
        return np.zeros(tumour.depth.shape, np.float32)
    rng, radius = tumour.rng, tumour.radius_mm
    centre = rng.standard_normal(3)
    centre *= 0.6 * offset * radius / np.linalg.norm(centre)
    distance = np.sqrt(sum((o - np.float32(c)) ** 2 for o, c in zip(tumour.offsets, centre, strict=True))) / np.float32(radius)
    liking = tumour.field(max(scale * radius, 5.0)) + 0.35 * tumour.field(max(0.3 * scale * radius, 3.0)) - 1.3 * distance
    inside = tumour.depth > 0
    if not inside.any():
        return np.zeros(tumour.depth.shape, np.float32)
    threshold = float(np.quantile(liking[inside], 1 - fraction))
    return above(liking, threshold, float(rng.uniform(0.2, 0.7))) * above(tumour.depth, 0.06 * radius + 1, 3.0)


def bleed(tumour: Tumour, where: np.ndarray, hu: float, extent: float) -> None:
    """Fresh blood within `where`: dense before contrast and unchanged by it. extent 0..1 is how much of it."""
    clot = above(tumour.field(max(0.3 * tumour.radius_mm, 4.0)), float(np.interp(extent, [0, 1], [1.6, -0.8])), 0.5)
    tumour.blend(clot * where, np.full(4, hu, np.float32))


def fluid_level(tumour: Tumour, cavity: np.ndarray, step_hu: float) -> None:
    """Debris settles to the back of a cavity (patient supine): denser below one horizontal plane in y."""
    weighted = cavity * tumour.occupancy
    total = float(weighted.sum())
    if total < 1:
        return
    middle = float((weighted.sum(axis=(0, 2)) * tumour.y).sum() / total)
    level = middle + 0.15 * tumour.radius_mm * tumour.rng.uniform(-1, 1.5)
    below = above(tumour.y, level, 1.2)[None, :, None] * cavity
    tumour.modulate(below, [step_hu] * 4)
