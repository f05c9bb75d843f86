"""The organs of the upper abdomen: liver, gallbladder, spleen, kidneys, pancreas, stomach and bowel.

The liver is not an ellipsoid but what is left of the cavity: below the diaphragm, inside the wall, and to the right, front and top of a
bent visceral surface that runs from the left front to the right back. Positions are anatomical (z, y, x) in mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .body import Frame, Rooms
from .canvas import COARSE, Canvas, Coordinates, capsule, ellipsoid, random_rotation
from .fields import smooth_field, smooth_maximum, smooth_minimum, soft_step
from .kinetics import Contrast, Perfusion

#: Medians over children; the unenhanced HU of each child is drawn around them.
SPLEEN = Perfusion(59, blood_volume=0.105, interstitium=0.42, mean_transit_s=12)
KIDNEY_CORTEX = Perfusion(43, blood_volume=0.26, interstitium=1.0, mean_transit_s=36)
KIDNEY_MEDULLA = Perfusion(38, blood_volume=0.07, interstitium=1.45, mean_transit_s=65)


@dataclass(frozen=True)
class LiverTissue:
    """What the liver is made of: its perfusion, how coarse it looks, and its HU in (PC, AP, PVP, DP)."""

    perfusion: Perfusion
    mottle_hu: float
    hu: np.ndarray


def draw_liver_tissue(rng: np.random.Generator, contrast: Contrast) -> LiverTissue:
    """Draw the parenchyma: 70 +- 9 HU unenhanced in children (clinical notes); one in ten is fatty."""
    unenhanced = rng.normal(67.0, 6.5) if rng.random() > 0.1 else rng.uniform(28.0, 52.0)
    arterial = float(np.clip(rng.normal(0.25, 0.06), 0.1, 0.45))
    perfusion = Perfusion(
        unenhanced=float(unenhanced),
        arterial=arterial,
        portal=1.0 - arterial,
        blood_volume=float(np.clip(rng.normal(0.10, 0.02), 0.05, 0.16)),
        interstitium=float(np.clip(rng.normal(0.28, 0.035), 0.18, 0.38)),
        mean_transit_s=float(rng.uniform(10.0, 18.0)),
    )
    return LiverTissue(perfusion, float(rng.gamma(2.0, 1.2)), contrast.hu(perfusion))


def liver_shape(rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, rooms: Rooms) -> np.ndarray:
    """Return the liver's signed distance (mm), float32 (nz, ny, nx)."""
    build = frame.build
    width, depth, length = build.trunk_width, build.trunk_depth, build.liver_length
    normal = np.array([rng.normal(-0.62, 0.07), rng.normal(0.47, 0.08), rng.normal(0.60, 0.06)])
    normal /= np.linalg.norm(normal)
    through = (-length * rng.uniform(0.30, 0.42), -0.02 * depth + rng.normal(0, 0.03 * depth), width * rng.normal(0.03, 0.04))
    fine, c = c, c.coarse()
    visceral = normal[0] * (c.z - through[0]) + normal[1] * (c.y - through[1]) + normal[2] * (c.x - through[2])
    relief = smooth_field(rng, *canvas.coarse_axes, 24.0 + 30.0 * build.scale)
    visceral = visceral + (3.0 + 9.0 * build.scale) * relief
    # the right lobe reaches down along the flank, the left one ends in a thin edge
    tip = -length * rng.uniform(0.95, 1.15) - c.z + 0.4 * (c.x + 0.33 * width) + (2.0 + 5.0 * build.scale) * relief
    left_end = c.x - width * rng.uniform(0.12, 0.33) + 0.25 * (c.y + 0.2 * depth)
    every = tuple(slice(None, None, step) for step in COARSE)
    shape = smooth_maximum(rooms.abdomen[every] + 0.8, visceral, 9.0 * build.scale + 2.0)
    shape = smooth_maximum(shape, 0.9 * tip, 14.0)
    shape = smooth_maximum(shape, left_end, 10.0)
    shape = np.maximum(canvas.refine(shape), rooms.abdomen + 0.8)  # the wall is exact, the visceral side smooth
    c = fine
    spine_margin = rooms.spine - (4.0 + 6.0 * build.scale)
    shape = np.maximum(shape, -spine_margin)
    # fissure of the ligamentum teres, where fat enters from below
    slit = np.abs(c.x - width * rng.normal(0.035, 0.015) + 0.3 * (c.y + 0.25 * depth)) - rng.uniform(0.4, 2.2)
    below = c.z + length * rng.uniform(0.38, 0.55)
    return np.maximum(shape, -np.maximum(slit, np.maximum(below, c.y + 0.02 * depth)))


def paint_liver(rng: np.random.Generator, canvas: Canvas, shape: np.ndarray, tissue: LiverTissue) -> None:
    """Paint the parenchyma with its mottle, which grows with contrast."""
    mottle = tissue.mottle_hu * smooth_field(rng, canvas.z, canvas.y, canvas.x, rng.uniform(4.0, 14.0))
    if rng.random() < 0.25:  # regional difference of perfusion or fat
        mottle = mottle + rng.uniform(2.0, 7.0) * smooth_field(rng, canvas.z, canvas.y, canvas.x, 45.0)
    gain = (0.5, 1.1, 1.0, 0.8)
    hu = np.stack([tissue.hu[phase] + gain[phase] * mottle for phase in range(4)])
    canvas.paint_shape(canvas.everywhere, shape, hu, "liver")


def paint_gallbladder(rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, contrast: Contrast) -> None:
    """Paint a gallbladder under the right lobe; one in ten is contracted away."""
    if rng.random() < 0.1:
        return
    build = frame.build
    length = build.liver_length
    centre = (
        -length * rng.uniform(0.60, 0.78),
        -build.trunk_depth * rng.uniform(0.10, 0.26),
        -build.trunk_width * rng.uniform(0.08, 0.20),
    )
    radii = np.array([0.16, 0.10, 0.085]) * length * rng.uniform(0.6, 1.2)
    box = c.box(centre, tuple(radii + 5))
    if box is None:
        return
    shape = ellipsoid(*c.at(box), centre, tuple(radii), random_rotation(rng, 18))
    shape = shape + 0.8 * smooth_field(rng, canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]], 12.0)
    canvas.paint_shape(box, shape - 1.0, contrast.hu(Perfusion(35, blood_volume=0.12, interstitium=0.3)))
    canvas.paint_shape(box, shape, np.full(4, rng.normal(8, 6)))


def paint_spleen(rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, rooms: Rooms, contrast: Contrast) -> None:
    """Paint the spleen: mottled in the arterial phase, even later."""
    build = frame.build
    length = build.spleen_length
    centre = (-length * rng.uniform(0.52, 0.72), build.trunk_depth * rng.uniform(0.12, 0.20), build.trunk_width * rng.uniform(0.33, 0.39))
    radii = (length * 0.52, length * rng.uniform(0.33, 0.42), length * rng.uniform(0.17, 0.23))
    box = c.box(centre, tuple(np.array(radii) * 1.3 + 6))
    if box is None:
        return
    grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
    shape = ellipsoid(*c.at(box), centre, radii, random_rotation(rng, 12)) + 2.5 * build.scale * smooth_field(rng, *grid, 18.0)
    shape = smooth_maximum(shape, rooms.abdomen[box] + 1.0, 4.0)
    hu = contrast.hu(replace(SPLEEN, unenhanced=rng.normal(SPLEEN.unenhanced, 4)))
    stripes = smooth_field(rng, *grid, 5.0, (1.5, 1.0, 0.7))
    mottle = rng.uniform(5.0, 28.0)
    canvas.paint_shape(box, shape, np.stack([hu[p] + gain * stripes for p, gain in enumerate((0.5, mottle, 1.5, 1.0))]), "spleen")


def paint_kidneys(rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, rooms: Rooms, contrast: Contrast) -> None:
    """Paint kidneys with cortex, pyramids and sinus in their capsule of fat."""
    build = frame.build
    cortex = contrast.hu(replace(KIDNEY_CORTEX, unenhanced=rng.normal(KIDNEY_CORTEX.unenhanced, 3)))
    medulla = contrast.hu(replace(KIDNEY_MEDULLA, unenhanced=rng.normal(KIDNEY_MEDULLA.unenhanced, 3)))
    for side in (-1, 1):
        length = build.kidney_length * rng.uniform(0.93, 1.07)
        centre = (
            -build.liver_length * (0.72 if side < 0 else 0.62) + rng.normal(0, 4),
            frame.spine_centre_y - 0.02 * build.trunk_depth + rng.normal(0, 2),
            side * (0.75 * build.vertebra_width + 0.24 * length + build.trunk_width * rng.uniform(0.015, 0.05)),
        )
        radii = (0.5 * length, 0.27 * length, 0.24 * length)
        box = c.box(centre, tuple(np.array(radii) * 1.3 + 6))
        if box is None:
            continue
        grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
        z, y, x = c.at(box)
        turn = random_rotation(rng, 9)
        lobes = smooth_field(rng, *grid, 13.0 * (0.5 + 0.5 * build.scale))
        shape = ellipsoid(z, y, x, centre, radii, turn) + 0.6 * lobes
        fat = smooth_maximum(shape - (1.0 + 5.0 * build.visceral_fat), rooms.cavity[box] + 1.0, 3.0)
        shape = np.maximum(shape, rooms.cavity[box] + 1.5)
        canvas.paint_shape(box, fat, np.full(4, -92.0))
        canvas.paint_shape(box, shape, cortex, "kidney cortex")
        pyramids = soft_step(shape + 0.075 * length, 2.0) * np.clip(0.6 + 1.2 * lobes, 0.0, 1.0)
        canvas.paint(box, pyramids, medulla, "kidney medulla")
        sinus_centre = (centre[0], centre[1] - 0.04 * length, centre[2] - side * 0.13 * length)
        sinus = ellipsoid(z, y, x, sinus_centre, (0.24 * length, 0.09 * length, 0.13 * length), turn) + 0.8 * lobes
        canvas.paint_shape(box, sinus, np.full(4, -20.0 - 50.0 * build.visceral_fat))
        canvas.paint_shape(box, sinus + 0.05 * length, np.full(4, 8.0) if rng.random() < 0.8 else contrast.vein(20.0))


def paint_pancreas(rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, contrast: Contrast) -> None:
    """Paint the pancreas as a bent band in front of the great vessels."""
    build = frame.build
    hu = contrast.hu(Perfusion(rng.normal(46, 4), blood_volume=0.14, interstitium=0.3, mean_transit_s=10))
    z0 = -0.66 * build.liver_length
    front = frame.spine_front_y - 0.10 * build.trunk_depth
    points = np.array([
        [z0 - 0.12 * build.liver_length, front - 0.03 * build.trunk_depth, -0.11 * build.trunk_width],
        [z0, front - 0.06 * build.trunk_depth, 0.0],
        [z0 + 0.08 * build.liver_length, front, 0.12 * build.trunk_width],
        [z0 + 0.14 * build.liver_length, front + 0.08 * build.trunk_depth, 0.24 * build.trunk_width],
    ]) + rng.normal(0, 2, (4, 3))
    radius = (3.0 + 6.0 * build.scale) * rng.uniform(0.8, 1.15)
    for start, end in pairwise(points):
        box = c.box(tuple(0.5 * (start + end)), tuple(0.5 * np.abs(end - start) + radius + 3))
        if box is not None:
            grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
            shape = capsule(*c.at(box), start, end, radius, radius * 0.9) + 1.3 * smooth_field(rng, *grid, 6.0)
            canvas.paint_shape(box, shape, hu)


def paint_stomach(rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, rooms: Rooms, contrast: Contrast) -> None:
    """Paint the stomach: wall, what is in it, and gas in front of a level."""
    build = frame.build
    fill = rng.uniform(0.55, 1.25)
    centre = np.array([-0.36 * build.liver_length, -0.14 * build.trunk_depth, 0.22 * build.trunk_width]) + rng.normal(0, 4, 3)
    radii = np.array([0.30 * build.liver_length, 0.17 * build.trunk_depth, 0.12 * build.trunk_width]) * fill
    antrum = np.array([-0.66 * build.liver_length, -0.20 * build.trunk_depth, 0.03 * build.trunk_width])
    box = c.box(tuple(0.5 * (centre + antrum)), tuple(0.5 * np.abs(centre - antrum) + radii * 1.3 + 8))
    if box is None:
        return
    grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
    z, y, x = c.at(box)
    fundus = ellipsoid(z, y, x, tuple(centre), tuple(radii), random_rotation(rng, 15))
    tube = capsule(z, y, x, centre, antrum, 0.7 * radii[2], 0.45 * radii[2])
    shape = smooth_minimum(fundus, tube, 10.0) + 1.5 * smooth_field(rng, *grid, 14.0)
    shape = smooth_maximum(shape, rooms.abdomen[box] + 1.0, 4.0)
    wall_mm = rng.uniform(1.5, 4.5)
    wall = contrast.hu(Perfusion(40, blood_volume=0.10, interstitium=0.3, mean_transit_s=14))
    canvas.paint_shape(box, shape, wall)
    food = rng.choice(3, p=[0.5, 0.35, 0.15])
    content = (12.0, 35.0, 170.0)[food] + (4.0, 30.0, 12.0)[food] * smooth_field(rng, *grid, 5.0)
    inner = shape + wall_mm
    canvas.paint(box, soft_step(inner, canvas.pixel_mm), np.broadcast_to(content, (4, *content.shape)))
    level = centre[1] - radii[1] * rng.uniform(-0.2, 0.9)
    upright = np.broadcast_to(canvas.y[box[1]][None, :, None], inner.shape)  # gravity does not bend with the anatomy
    canvas.paint_shape(box, np.maximum(inner, upright - level), np.full(4, -960.0))


def paint_bowel(
    rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, rooms: Rooms, liver: np.ndarray, contrast: Contrast
) -> None:
    """Paint loops of small bowel and colon wherever the lower cavity is free: short bent tubes, empty, with fluid, gas or stool."""
    build = frame.build
    size = 4.0 + 8.0 * build.scale
    wall = contrast.hu(Perfusion(40, blood_volume=0.11, interstitium=0.34, mean_transit_s=14))
    free = (rooms.abdomen < -size * 0.8) & (liver > size * 0.6) & (rooms.spine > 1.3 * size) & (c.y < frame.spine_front_y - 0.4 * size)
    free &= c.z < -0.30 * build.liver_length
    places = np.argwhere(free[::2, ::4, ::4])
    if len(places) == 0:
        return
    volume = len(places) * 32 * abs(canvas.z[1] - canvas.z[0]) * canvas.pixel_mm**2
    count = int(np.clip(volume / (4.2 * size**3) * rng.uniform(0.5, 1.0), 4, 90))
    gassy, full = rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.7)
    for place in places[rng.choice(len(places), count)]:
        index = tuple(place * (2, 4, 4))
        start = np.array([c.z[index], c.y[index], c.x[index]]) + rng.uniform(-3, 3, 3)
        course = rng.normal(0.0, 1.0, 3) * (0.6, 1.0, 1.0)
        end = start + course / np.linalg.norm(course) * size * rng.uniform(1.0, 3.5)
        radius = size * rng.uniform(0.55, 1.25)
        box = c.box(tuple(0.5 * (start + end)), tuple(0.5 * np.abs(end - start) + radius + 2))
        if box is None:
            continue
        grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
        folds = smooth_field(rng, *grid, 0.8 * size)
        shape = capsule(*c.at(box), start, end, radius, radius * rng.uniform(0.7, 1.1)) + 0.12 * size * folds
        shape = np.maximum(np.maximum(shape, rooms.abdomen[box] + 1.0), -liver[box] + 0.5)
        canvas.paint_shape(box, shape, wall)
        inner = shape + rng.uniform(1.0, 2.4)
        if rng.random() < full:
            canvas.paint_shape(box, inner, np.full(4, rng.uniform(5, 35)) if rng.random() < 0.9 else np.full(4, rng.uniform(150, 350)))
        if rng.random() < gassy:
            upright = np.broadcast_to(canvas.y[box[1]][None, :, None], inner.shape)
            level = upright - (canvas.y[box[1]].mean() + rng.uniform(-0.6, 1.2) * radius)
            canvas.paint_shape(box, np.maximum(inner, level), np.full(4, -940.0))
        elif rng.random() < 0.15:  # stool: soft with bubbles
            bubbles = smooth_field(rng, *grid, 2.0)
            stool = 30.0 - 500.0 * np.clip(bubbles - 0.8, 0.0, 1.2)
            canvas.paint(box, soft_step(inner, canvas.pixel_mm), np.broadcast_to(stool, (4, *stool.shape)))
