"""The frame of the trunk: outline, fat, muscle, spine, ribs, lungs and heart, and the cavity that the viscera share.

The trunk is a superellipse whose axes are the child's own; depth below the skin is measured along the radius. z = 0 is the top of the
right hemidiaphragm. Everything is evaluated in the anatomical coordinates of `Coordinates`, so that one smooth warp bends it all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Coordinates, capsule, ellipsoid
from .fields import smooth_field, soft_step
from .growth import Build
from .kinetics import Contrast, Perfusion


@dataclass(frozen=True)
class Frame:
    """The random proportions of one trunk; lengths in mm, positions in anatomical (z, y, x)."""

    build: Build
    exponent: float
    flat_back: float
    dome_drop: float
    left_dome_lower: float
    spine_front_y: float
    spine_centre_y: float
    rib_spacing: float
    rib_slope: float
    rib_phase: float
    costal_margin_z: float
    bone: float
    wall_mm: float

    def depth(self, c: Coordinates) -> np.ndarray:
        """Return the radial distance (mm) to the skin, negative inside, for every sample."""
        half_width, half_depth = self.build.trunk_width / 2, self.build.trunk_depth / 2
        y = np.where(c.y > 0, c.y * self.flat_back, c.y)
        # a child's chest is narrower at the top of the scan than at the costal margin
        taper = 1.0 - 0.0010 * np.clip(c.z, 0.0, 60.0) / self.build.scale
        power = np.float32(self.exponent)
        level = (np.abs(c.x / (half_width * taper)) ** power + np.abs(y / half_depth) ** power) ** (1.0 / power)
        return np.sqrt(c.x**2 + y**2) * (1.0 - 1.0 / np.maximum(level, 1e-3))

    def diaphragm(self, c: Coordinates) -> np.ndarray:
        """Return the height (z, mm) of the diaphragm above every sample's (y, x): two domes, the left one lower."""
        half_width, half_depth = self.build.trunk_width / 2, self.build.trunk_depth / 2
        right = ((c.x + 0.42 * half_width) / (0.62 * half_width)) ** 2 + ((c.y + 0.08 * half_depth) / (0.95 * half_depth)) ** 2
        left = ((c.x - 0.46 * half_width) / (0.55 * half_width)) ** 2 + ((c.y + 0.05 * half_depth) / (0.95 * half_depth)) ** 2
        right_z = -self.dome_drop * right
        left_z = -self.left_dome_lower - self.dome_drop * left
        return np.maximum(right_z, left_z)


def draw_frame(rng: np.random.Generator, build: Build) -> Frame:
    """Draw a trunk's proportions."""
    half_depth = build.trunk_depth / 2
    spine_centre = half_depth * rng.uniform(0.34, 0.42)
    return Frame(
        build=build,
        exponent=float(rng.uniform(2.1, 2.7)),
        flat_back=float(rng.uniform(1.0, 1.16)),
        dome_drop=float(rng.uniform(42.0, 70.0) * (0.35 + 0.65 * build.scale)),
        left_dome_lower=float(rng.uniform(2.0, 16.0) * build.scale),
        spine_front_y=float(spine_centre - 0.40 * build.vertebra_width),
        spine_centre_y=float(spine_centre),
        rib_spacing=float((11.0 + 13.0 * build.scale) * rng.uniform(0.9, 1.1)),
        rib_slope=float(rng.uniform(0.35, 0.75)),
        rib_phase=float(rng.random()),
        costal_margin_z=float(-build.liver_length * rng.uniform(0.55, 0.85)),
        bone=float(rng.normal(0.0, 1.0)),
        wall_mm=build.fat_mm + build.muscle_mm,
    )


@dataclass(frozen=True)
class Rooms:
    """Signed distances (mm, negative inside) that later tissues respect, float32 (nz, ny, nx); and muscle's HU in PHASES."""

    skin: np.ndarray
    cavity: np.ndarray
    abdomen: np.ndarray
    spine: np.ndarray
    muscle_hu: np.ndarray


def paint_body(rng: np.random.Generator, canvas: Canvas, c: Coordinates, frame: Frame, contrast: Contrast) -> Rooms:
    """Paint the frame on an empty canvas and return the rooms inside it."""
    build, everywhere = frame.build, canvas.everywhere
    coarse, axes = c.coarse(), canvas.coarse_axes
    coarse_depth = frame.depth(coarse)
    coarse_fat_edge = coarse_depth + build.fat_mm * (1.0 + 0.25 * smooth_field(rng, *axes, 45.0))
    # the abdominal wall is thick at the flanks and back and thin in front
    flank = np.clip(0.75 + 0.5 * (coarse.y / (build.trunk_depth / 2)), 0.45, 1.3)
    depth, fat_edge = canvas.refine(coarse_depth), canvas.refine(coarse_fat_edge)
    cavity = canvas.refine(coarse_fat_edge + build.muscle_mm * flank)
    skin_mm = 0.8 + 0.8 * build.scale

    canvas.paint_shape(everywhere, depth, contrast.hu(Perfusion(rng.normal(15, 15), blood_volume=0.03, interstitium=0.2)))
    subcutaneous = rng.normal(-98, 8)
    canvas.paint_shape(everywhere, depth + skin_mm, np.full(4, subcutaneous))
    strands = smooth_field(rng, canvas.z, canvas.y, canvas.x, 7.0 + 4.0 * build.scale, (1.5, 0.6, 1.0))
    muscle_hu = contrast.hu(Perfusion(rng.normal(57, 6), blood_volume=0.02, interstitium=0.12, mean_transit_s=35))
    marbling = rng.uniform(2.0, 9.0) * strands
    canvas.paint(everywhere, soft_step(fat_edge, canvas.pixel_mm), np.stack([hu + marbling for hu in muscle_hu]))
    if build.muscle_mm > 5:
        # fat planes between the layers of the wall
        layer = soft_step(np.abs(cavity - 0.45 * build.muscle_mm) - 0.35 - 0.25 * strands, canvas.pixel_mm)
        canvas.paint(everywhere, 0.55 * layer * (fat_edge < -1.0), np.full(4, subcutaneous))

    _paint_back(rng, canvas, c, frame, muscle_hu, subcutaneous, fat_edge)
    mesentery = -105.0 + 95.0 * (1.0 - build.visceral_fat)
    texture = mesentery + 16.0 * strands
    canvas.paint(everywhere, soft_step(cavity, canvas.pixel_mm), np.stack([texture + extra for extra in (0.0, 3.0, 6.0, 5.0)]))

    diaphragm = frame.diaphragm(coarse) + 2.0 * smooth_field(rng, *axes, 30.0 + 25.0 * build.scale)
    above = canvas.refine((diaphragm - coarse.z) * np.float32(0.75))  # the dome's slope makes vertical distance longer than true distance
    lung = np.maximum(cavity + 1.0, above)
    _paint_lungs(rng, canvas, lung, contrast)
    _paint_heart(rng, canvas, c, frame, contrast, lung)
    spine = _paint_spine(rng, canvas, c, frame, fat_edge)
    _paint_ribs(rng, canvas, c, frame, cavity)
    abdomen = np.maximum(cavity + 1.5, -above + (1.2 + 1.5 * build.scale))
    return Rooms(skin=depth, cavity=cavity, abdomen=abdomen, spine=spine, muscle_hu=muscle_hu)


def _paint_back(rng, canvas, c, frame, muscle_hu, fat_hu, fat_edge) -> None:
    build = frame.build
    half_width, half_depth = build.trunk_width / 2, build.trunk_depth / 2
    for side in (-1, 1):
        centre = (0.0, frame.spine_centre_y + 0.30 * half_depth, side * 0.24 * half_width)
        radii = (1e4, 0.24 * half_depth, 0.21 * half_width)
        shape = np.maximum(canvas.refine(ellipsoid(*c.coarse().at(...), centre, radii)), fat_edge + 1.0)
        canvas.paint_shape(canvas.everywhere, shape - 1.2, np.full(4, fat_hu))
        canvas.paint_shape(canvas.everywhere, shape, muscle_hu)


def _paint_lungs(rng, canvas, lung, contrast) -> None:
    density = rng.normal(-820, 35)
    vessels = smooth_field(rng, canvas.z, canvas.y, canvas.x, 6.0)
    texture = density + 45.0 * smooth_field(rng, canvas.z, canvas.y, canvas.x, 28.0) + 420.0 * np.clip(vessels - 1.7, 0.0, 1.0)
    gain = (contrast.artery() - contrast.blood) * 0.06
    canvas.paint(canvas.everywhere, soft_step(lung, 1.6 * canvas.pixel_mm), np.stack([texture + g for g in gain]))


def _paint_heart(rng, canvas, c, frame, contrast, lung) -> None:
    build = frame.build
    centre = (rng.uniform(14, 24) * build.scale + 4, -0.35 * build.trunk_depth / 2, 0.16 * build.trunk_width / 2)
    radii = tuple(build.scale * np.array([24.0, 42.0, 52.0]) * rng.uniform(0.85, 1.15, 3))
    box = c.box(centre, tuple(r + 4 for r in radii))
    if box is None:
        return
    shape = ellipsoid(*c.at(box), centre, radii)
    muscle = contrast.hu(Perfusion(50, blood_volume=0.15, interstitium=0.3, mean_transit_s=15))
    canvas.paint_shape(box, shape - 2.0 * build.scale, np.full(4, -60.0))
    canvas.paint_shape(box, shape, muscle)
    canvas.paint_shape(box, shape + 9.0 * build.scale, 0.5 * contrast.artery() + 0.5 * contrast.vein(12.0))


def _paint_spine(rng, canvas, c, frame, fat_edge) -> np.ndarray:
    """Paint vertebrae, discs, arches and processes; returns their signed distance, a plain large number far from the column."""
    build = frame.build
    width, height = build.vertebra_width, build.vertebra_height
    centre = (0.5 * float(canvas.z[0] + canvas.z[-1]), frame.spine_centre_y + 0.5 * width, 0.0)
    box = c.box(centre, (float(np.ptp(canvas.z)), 1.6 * width, 1.2 * width))
    grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
    far = np.sqrt(c.x**2 + (c.y - frame.spine_centre_y) ** 2) - 0.5 * width
    cz, cy, cx = c.at(box)
    # 95th percentile of bone in the real scans of docs/phantoms.md: 570 HU and more; children's marrow is denser than adults' (assumption)
    spongy = 200.0 + 35.0 * frame.bone + rng.normal(0, 12)
    cortex = 680.0 + 120.0 * frame.bone
    body_shape = (np.abs(cx / (width / 2)) ** 2.6 + np.abs((cy - frame.spine_centre_y) / (0.40 * width)) ** 2.6) ** (1 / 2.6)
    column = (body_shape - 1.0) * width * 0.42
    place = (cz / height + frame.rib_phase) % 1.0
    disc = (0.13 - np.minimum(place, 1.0 - place)) * height  # positive inside a disc
    marrow = spongy + 22.0 * smooth_field(rng, *grid, 5.0)
    canvas.paint_shape(box, column, np.full(4, cortex))
    inner = soft_step(column + 0.9 + 0.5 * build.scale, canvas.pixel_mm)
    canvas.paint(box, inner, np.stack([marrow + extra for extra in (0.0, 6.0, 14.0, 10.0)]))
    canvas.paint(box, soft_step(-disc, 2.0) * soft_step(column, canvas.pixel_mm), np.full(4, 85.0))

    back = frame.spine_centre_y + 0.40 * width
    canal_centre = back + 0.26 * width
    canal = np.sqrt((cx / 1.25) ** 2 + (cy - canal_centre) ** 2) - 0.24 * width
    arch = canal - (0.09 * width + 1.2)
    process_slope = 0.35 * (cy - canal_centre)
    along = ((cz + process_slope) / height + frame.rib_phase) % 1.0
    level = (np.abs(along - 0.55) - 0.33) * height  # negative where the arch of a vertebra is cut
    spinous = np.maximum(np.abs(cx) - (0.6 + 0.05 * width), np.abs(cy - (canal_centre + 0.52 * width)) - 0.36 * width)
    spinous = np.maximum(spinous, fat_edge[box] + 1.0)
    transverse = np.maximum(np.abs(cy - (canal_centre - 0.02 * width) - 0.12 * np.abs(cx)) - 0.10 * width, np.abs(cx) - 0.98 * width)
    transverse = np.maximum(transverse, 0.25 * width - np.abs(cx))
    posterior = np.maximum(np.minimum(np.minimum(arch, spinous), transverse), level)
    canvas.paint_shape(box, posterior, np.full(4, 0.55 * cortex + 0.45 * spongy))
    canvas.paint_shape(box, canal, np.full(4, 18.0))
    canvas.paint_shape(box, np.sqrt((cx / 1.2) ** 2 + (cy - canal_centre) ** 2) - 0.14 * width, np.full(4, 38.0))
    far[box] = np.minimum(column, posterior)
    return far


def _paint_ribs(rng, canvas, c, frame, cavity) -> None:
    """Paint every rib at once: each is a tube in the wall that slants down from the spine, periodic in z."""
    build = frame.build
    radius = (1.3 + 2.2 * build.scale) * rng.uniform(0.9, 1.15)
    depth = cavity - 0.45 * build.muscle_mm
    wall = np.nonzero(np.abs(depth) < radius + canvas.pixel_mm)
    z, y, x, depth = c.z[wall], c.y[wall], c.x[wall], depth[wall]
    angle = np.arctan2(np.abs(x), y)  # 0 at the spine, pi in front
    drop = frame.rib_slope * build.trunk_width * 0.5 * (1.0 - np.cos(np.clip(angle, 0.0, 2.2)))
    along = (z + drop) / frame.rib_spacing + frame.rib_phase
    beside = (along - np.round(along)) * frame.rib_spacing
    shape = np.sqrt(depth**2 + (0.62 * beside) ** 2) - radius
    # below the costal margin the front of the wall has no ribs; near the front they are cartilage
    end = 2.25 - np.clip((frame.costal_margin_z - z) / build.liver_length, -0.2, 1.2) * 1.15
    shape = np.maximum(shape, (angle - end) * 0.4 * build.trunk_depth)
    shape = np.maximum(shape, (0.30 - angle) * 0.4 * build.trunk_depth)
    bony = angle < end - 0.42
    cortex, marrow, cartilage = 620.0 + 110.0 * frame.bone, 230.0 + 40.0 * frame.bone, 105.0
    core = soft_step(shape + 0.5 * radius + 0.5, canvas.pixel_mm)
    hu = np.where(bony, cortex + core * (marrow - cortex), cartilage)
    occupancy = soft_step(shape, canvas.pixel_mm)
    for phase in range(4):
        world = canvas.hu[phase]
        world[wall] += occupancy * (hu - world[wall])


def paint_psoas(canvas: Canvas, c: Coordinates, frame: Frame, rooms: Rooms) -> None:
    """Paint the psoas muscles, which widen downwards beside the lumbar spine."""
    build = frame.build
    top = -0.55 * build.liver_length
    for side in (-1, 1):
        start = np.array([top, frame.spine_centre_y, side * 0.55 * build.vertebra_width])
        end = np.array([top - 160.0 * build.scale, frame.spine_centre_y - 8 * build.scale, side * 1.15 * build.vertebra_width])
        shape = canvas.refine(capsule(*c.coarse().at(...), start, end, 0.12 * build.vertebra_width, 0.62 * build.vertebra_width))
        shape = np.maximum(np.maximum(shape, rooms.cavity), 0.5 - rooms.spine)
        canvas.paint_shape(canvas.everywhere, shape, rooms.muscle_hu, "muscle")
