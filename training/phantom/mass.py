"""Where lesions sit, and how they push their surroundings aside.

A growing mass displaces more than it replaces. Outside a lesion of radius 1 (in its own ellipsoidal metric) that grew from a core of
radius k, incompressible tissue now at radius r was at (r^3 - 1 + k^3)^(1/3); the push fades with distance and against the spine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .canvas import Box, Canvas, Coordinates
from .fields import smooth_maximum


def choose_centres(
    rng: np.random.Generator,
    canvas: Canvas,
    liver: np.ndarray,
    diameters_mm: list[tuple[float, float, float]],
    exophytic: Sequence[float] = (),
    abdomen: np.ndarray | None = None,
) -> list[tuple[float, float, float] | None]:
    """Choose a centre (z, y, x) in patient mm for every lesion; large ones deep in the liver, none on top of another while there is room.

    liver, abdomen: signed distances (mm). exophytic: for each lesion the part of its radius by which its centre lies outside the liver, 0
    for one inside; where the abdomen has no room for that, it lies inside as well. The list goes with `diameters_mm`; a lesion that finds
    no room has None.
    """
    step = (2, 4, 4)
    depth = -liver[::2, ::4, ::4]
    # lesions that reach out of the scanned range would be cut: the outermost slices hold no centres
    margin = max(1, len(depth) // 12)
    depth[:margin] = depth[-margin:] = -np.inf
    room = np.full(depth.shape, -np.inf) if abdomen is None else -abdomen[::2, ::4, ::4]
    near = np.argwhere((depth > 2.0) | ((depth > -40.0) & (room > 2.0)))
    depth, room = depth[tuple(near.T)], room[tuple(near.T)]
    if not (depth > 2.0).any():
        return [None] * len(diameters_mm)
    places = np.stack([axis[near[:, i] * step[i]] for i, axis in enumerate((canvas.z, canvas.y, canvas.x))], axis=1)
    chosen: list[np.ndarray | None] = []
    for number, size in enumerate(diameters_mm):
        radius = 0.5 * float(np.mean(size))
        wanted = min(radius * rng.uniform(0.15, 0.8), 0.8 * float(depth.max()))
        apart = np.ones(len(places), bool)
        for other, taken in zip(chosen, diameters_mm, strict=False):
            if other is None:
                continue
            gap = 0.55 * (np.mean(size) + np.mean(taken)) * (0.75 if number > 2 else 1.0)
            apart &= np.linalg.norm(places - other, axis=1) > gap
        outside = exophytic[number] if number < len(exophytic) else 0.0
        free = apart & (np.abs(depth + outside * radius) < 3.0) & (room > 0.6 * radius) if outside else np.zeros(len(places), bool)
        if not free.any():
            free = apart & (depth > 2.0) & (depth >= wanted)
        chosen.append(places[rng.choice(np.flatnonzero(free))] if free.any() else None)
    return [None if place is None else tuple(float(v) for v in place) for place in chosen]


def bulge(
    canvas: Canvas, liver: np.ndarray, abdomen: np.ndarray, lesions: list[tuple[tuple[float, float, float], tuple[float, float, float]]]
) -> np.ndarray:
    """Return the liver's signed distance (mm) with exophytic lesions [(centre, diameters)], (z, y, x) mm, as parts of it."""
    shape = liver.copy()
    for centre, size in lesions:
        box = canvas.box(centre, 0.75 * max(size))
        if box is None:
            continue
        radius = 0.5 * float(np.mean(size))
        ball = (_radii(canvas, box, centre, size) - 0.9) * radius
        # a collar of parenchyma runs up the lesion's foot
        joined = -smooth_maximum(-shape[box], -ball, 0.2 * radius)
        shape[box] = np.where(joined < shape[box], np.maximum(joined, abdomen[box] + 0.8), shape[box])
    return shape


def _radii(canvas: Canvas, box: Box, centre: tuple[float, float, float], size: tuple[float, float, float]) -> np.ndarray:
    """Return how far the voxels of a box are from a lesion's centre, in its own radii, float32 (z, y, x)."""
    offset = [
        canvas.z[box[0]][:, None, None] - centre[0],
        canvas.y[box[1]][None, :, None] - centre[1],
        canvas.x[box[2]][None, None, :] - centre[2],
    ]
    return np.sqrt(sum((o / (0.5 * d)) ** 2 for o, d in zip(offset, size, strict=True))).astype(np.float32)


def push_aside(
    rng: np.random.Generator,
    canvas: Canvas,
    frame: Coordinates,
    spine: np.ndarray,
    lesions: list[tuple[tuple[float, float, float], tuple[float, float, float]]],
) -> Coordinates:
    """Return the viscera's anatomical coordinates: the frame's, drawn towards each lesion [(centre, diameters)], (z, y, x) mm."""
    z, y, x = frame.z.copy(), frame.y.copy(), frame.x.copy()
    yielding = np.clip((spine - 2.0) / 25.0, 0.0, 1.0)
    for centre, size in lesions:
        largest = max(size)
        if largest < 14.0:
            continue
        core = rng.uniform(0.45, 0.9)
        box = canvas.box(centre, 1.6 * largest)
        if box is None:
            continue
        offset = [
            canvas.z[box[0]][:, None, None] - centre[0],
            canvas.y[box[1]][None, :, None] - centre[1],
            canvas.x[box[2]][None, None, :] - centre[2],
        ]
        r = np.sqrt(sum((o / (0.5 * d)) ** 2 for o, d in zip(offset, size, strict=True))).astype(np.float32)
        before = np.where(r > 1.0, np.cbrt(np.maximum(r, 1.0) ** 3 - 1.0 + core**3), r * core)
        fade = np.exp(-((np.maximum(r - 1.0, 0.0) / 0.9) ** 2))
        pull = (before / np.maximum(r, 1e-3) - 1.0) * fade * yielding[box]
        for axis, o in zip((z, y, x), offset, strict=True):
            axis[box] += pull * o
    return Coordinates(z, y, x)
