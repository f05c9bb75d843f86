"""Vessels: the great vessels beside the spine, and portal and hepatic venous trees grown into the liver.

A tree is grown by joining random points of the liver, nearest first, to the cheapest place of what has grown so far (distance plus a
share of the way back to the root); calibres follow Murray's law, so that the cube of a parent's radius is the sum of its children's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .body import Frame
from .canvas import Canvas, Coordinates, capsule
from .kinetics import Contrast

MURRAY_EXPONENT = 3.0


@dataclass(frozen=True)
class Tree:
    """A vessel tree: points (n, 3) in (z, y, x) mm, the parent of each point (root: -1), its radius in mm."""

    points: np.ndarray
    parents: np.ndarray
    radii: np.ndarray


def grow_tree(rng: np.random.Generator, root: np.ndarray, targets: np.ndarray, root_radius: float, thrift: float = 0.35) -> Tree:
    """Grow a tree from `root` (3,) to every one of `targets` (n, 3). thrift: 0 joins the nearest point, 1 the shortest way to the root."""
    order = np.argsort(np.linalg.norm(targets - root, axis=1))
    points, parents, way = [np.asarray(root, float)], [-1], [0.0]
    for target in targets[order]:
        existing = np.array(points)
        cost = np.linalg.norm(existing - target, axis=1) + thrift * np.array(way)
        parent = int(np.argmin(cost))
        gap = float(np.linalg.norm(existing[parent] - target))
        # a bent way: one point between, off the straight line
        middle = 0.5 * (existing[parent] + target) + rng.normal(0.0, 0.09 * gap, 3)
        for point in (middle, target):
            way.append(way[parent] + float(np.linalg.norm(np.asarray(point) - points[parent])))
            points.append(point)
            parents.append(parent)
            parent = len(points) - 1
    load = np.zeros(len(points))
    leaves = np.setdiff1d(np.arange(len(points)), parents)
    load[leaves] = 1.0
    for i in range(len(points) - 1, 0, -1):
        load[parents[i]] += load[i]
    radii = root_radius * (load / load[0]) ** (1.0 / MURRAY_EXPONENT)
    return Tree(np.array(points), np.array(parents), radii)


def paint_tree(canvas: Canvas, c: Coordinates, tree: Tree, hu: np.ndarray, inside: np.ndarray, thinnest_mm: float) -> None:
    """Paint a tree where `inside` (signed distance, mm) is negative; branches thinner than `thinnest_mm` are left out."""
    for i in range(1, len(tree.points)):
        parent = tree.parents[i]
        if tree.radii[i] < thinnest_mm:
            continue
        middle = 0.5 * (tree.points[i] + tree.points[parent])
        reach = 0.5 * np.abs(tree.points[i] - tree.points[parent]) + tree.radii[parent] + 1.0
        box = c.box(tuple(middle), tuple(reach))
        if box is None:
            continue
        # the first part of a branch is already as thin as the branch: the parent's calibre would bulge
        shape = capsule(*c.at(box), tree.points[parent], tree.points[i], tree.radii[i] * 1.08, tree.radii[i])
        canvas.paint_shape(box, np.maximum(shape, inside[box]), hu)


@dataclass(frozen=True)
class GreatVessels:
    """Centre lines (n, 3) in anatomical (z, y, x) mm and radii (mm) of aorta, vena cava and portal trunk."""

    aorta: np.ndarray
    aorta_radius: float
    cava: np.ndarray
    cava_radius: float
    portal: np.ndarray
    portal_radius: float
    hilum: np.ndarray
    confluence: np.ndarray


def draw_great_vessels(rng: np.random.Generator, frame: Frame, top: float, bottom: float) -> GreatVessels:
    """Draw the course of the great vessels from `top` to `bottom` (z, mm)."""
    build = frame.build
    length, width = build.liver_length, build.trunk_width
    aorta_radius = build.aorta_diameter / 2
    cava_radius = aorta_radius * rng.uniform(1.0, 1.45)
    front = frame.spine_front_y
    aorta = np.array([
        [z, front - aorta_radius - rng.uniform(0.5, 2.5), build.vertebra_width * rng.uniform(0.18, 0.34)]
        for z in np.linspace(bottom, top, 6)
    ])
    entry = front - cava_radius - 0.03 * width
    cava = np.array([
        [bottom, front - cava_radius, -0.50 * build.vertebra_width],
        [-0.62 * length, front - cava_radius - 1.0, -0.55 * build.vertebra_width],
        [-0.38 * length, entry - 0.01 * width, -0.60 * build.vertebra_width - 2.0],
        [-0.14 * length, entry - 0.05 * width, -0.55 * build.vertebra_width - 3.0],
        [0.12 * length, entry - 0.08 * width, -0.35 * build.vertebra_width],
        [max(top, 0.15 * length), entry - 0.09 * width, -0.30 * build.vertebra_width],
    ])
    cava[:, 1:] += rng.normal(0.0, 1.0, (len(cava), 2))
    hilum = np.array([-0.46 * length, entry - 0.07 * width + rng.normal(0, 2), -0.09 * width + rng.normal(0, 3)])
    start = np.array([-0.72 * length, front - 2.5 * aorta_radius - 0.02 * width, 0.01 * width])
    portal = np.array([start, 0.5 * (start + hilum) + rng.normal(0, 2.0, 3), hilum])
    confluence = np.array([-0.10 * length, entry - 0.06 * width, -0.55 * build.vertebra_width - 3.0])
    return GreatVessels(aorta, aorta_radius, cava, cava_radius, portal, aorta_radius * rng.uniform(0.75, 1.05), hilum, confluence)


def paint_line(
    canvas: Canvas, c: Coordinates, line: np.ndarray, radius: float, hu: np.ndarray, flatten: float = 1.0, tissue: str | None = None
) -> None:
    """Paint a tube along a centre line (n, 3). flatten > 1 makes it wider than deep. tissue: its name if in canvas.TISSUES."""
    for start, end in pairwise(line):
        reach = 0.5 * np.abs(end - start) + radius * flatten + 1.0
        box = c.box(tuple(0.5 * (start + end)), tuple(reach))
        if box is None:
            continue
        z, y, x = c.at(box)
        stretch = np.array([1.0, 1.0, 1.0 / flatten])
        canvas.paint_shape(box, capsule(z, y, x / flatten, start * stretch, end * stretch, radius, radius), hu, tissue)


def tube_distance(place: tuple[np.ndarray, np.ndarray, np.ndarray], line: np.ndarray, radius: float) -> np.ndarray:
    """Return the signed distance (mm) at `place` (z, y, x) to a tube along a centre line (n, 3)."""
    distances = [capsule(*place, start, end, radius, radius) for start, end in pairwise(line)]
    return np.minimum.reduce(distances)


def paint_great_vessels(canvas: Canvas, c: Coordinates, vessels: GreatVessels, contrast: Contrast, calibre: float) -> None:
    """Paint aorta, vena cava (below the renal veins darker in the early phases) and portal trunk. calibre: the cava's flattening."""
    paint_line(canvas, c, vessels.cava[:2], vessels.cava_radius, contrast.vein(38.0), calibre)
    paint_line(canvas, c, vessels.cava[1:], vessels.cava_radius, 0.5 * contrast.vein(14.0) + 0.5 * contrast.vein(38.0), calibre)
    paint_line(canvas, c, vessels.portal, vessels.portal_radius, contrast.portal(), tissue="portal vein")
    paint_line(canvas, c, vessels.aorta, vessels.aorta_radius + 0.6, np.full(4, 45.0))
    paint_line(canvas, c, vessels.aorta, vessels.aorta_radius, contrast.artery(), tissue="aorta")
    for level, forward in ((-0.50, 26.0), (-0.62, 34.0)):
        z = level * (vessels.hilum[0] / -0.46)
        root = vessels.aorta[np.argmin(np.abs(vessels.aorta[:, 0] - z))] * np.array([0, 1, 1]) + np.array([z, 0, 0])
        scale = vessels.aorta_radius / 8.0
        branch = np.array([root, root + np.array([-4.0, -forward * 0.5, 1.0]) * scale, root + np.array([-26.0, -forward, -2.0]) * scale])
        paint_line(canvas, c, branch, 0.42 * vessels.aorta_radius, contrast.artery())
