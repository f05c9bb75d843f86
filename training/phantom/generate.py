"""One phantom exam from one seed: the child, the contrast, the scanner, the lesions, the motion, and the truth about all of them.

The noiseless world is painted once, in the reference phase's position (PVP), for the four phases together; each other phase is that
world moved by its breathing; then every phase goes through the scanner. Same seed, same exam, to the voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from PediatricLiverDxLib.vocabulary import ENTITY_CLASS, PHASES

from . import mimics
from .acquisition import (
    Displacement,
    Landmarks,
    Protocol,
    acquire,
    couch,
    displacement,
    draw_breathing,
    draw_protocol,
    pixel_positions,
    slice_positions,
    warp,
)
from .body import Frame, draw_frame, paint_body, paint_psoas
from .canvas import Canvas, Coordinates
from .fields import smooth_field, soft_step
from .growth import Build, draw_build
from .kinetics import Contrast, Perfusion, draw_contrast
from .lesions import LesionPlan, draw_age, draw_plans, paint
from .mass import bulge, choose_centres, push_aside
from .vessels import GreatVessels, draw_great_vessels, grow_tree, paint_great_vessels, paint_tree, tube_distance
from .viscera import (
    draw_liver_tissue,
    liver_shape,
    paint_bowel,
    paint_gallbladder,
    paint_kidneys,
    paint_liver,
    paint_pancreas,
    paint_spleen,
    paint_stomach,
)

REFERENCE = "PVP"

#: Exams with more slices than this are drawn again with thicker ones.
MOST_SLICES = 80

#: Spacing (mm) of the nodes on which displacement fields are kept.
FIELD_STEP_MM = 8.0


@dataclass(frozen=True)
class PhantomExam:
    """A generated exam and its truth.

    phases: int16 HU images (LPS) of the phases that the exam has; lesions: uint8 labels 1..n on the PVP grid; displacements: for each
    phase but PVP a vector image (mm, LPS) from a PVP position to the phase's position of the same tissue; truth: plain types, for JSON;
    tissues: uint8 on the PVP grid, 1 + its place in canvas.TISSUES where one of them is, None unless asked for.
    """

    phases: Mapping[str, sitk.Image]
    lesions: sitk.Image
    liver: sitk.Image
    displacements: Mapping[str, sitk.Image]
    truth: Mapping
    tissues: sitk.Image | None = None


def generate(
    seed: int, entity: str | None, *, matrix: int = 256, slice_spacing_mm: float | None = None, note_tissues: bool = False
) -> PhantomExam:
    """Generate one exam with lesions of `entity` (a key of ENTITY_CLASS), or without any lesion if None.

    slice_spacing_mm: a fixed spacing and thickness instead of the scanner's drawn ones, for benchmarks and samples.
    note_tissues: whether to say where organs and great vessels are; the voxels are the same.
    """
    rng = np.random.default_rng([seed, 20251122])
    age = draw_age(rng, entity) if entity else float(rng.uniform(0.05, 16.0))
    sex = "F" if rng.random() < {"IHH": 0.8, "FNH": 0.65, "HB": 0.36, "HH": 0.55}.get(entity, 0.5) else "M"
    build = draw_build(rng, age, sex)
    frame = draw_frame(rng, build)
    protocol, top, bottom = _draw_scan(rng, build, matrix, slice_spacing_mm)
    contrast = draw_contrast(rng, age, protocol.iodine_factor)

    canvas = _canvas(protocol, top, bottom)
    if note_tissues:
        canvas.note_tissues()
    coordinates = _bend(rng, canvas, build)
    rooms = paint_body(rng, canvas, coordinates, frame, contrast)
    tissue = draw_liver_tissue(rng, contrast)
    liver_seed, organ_seed = rng.integers(2**32, size=2)
    plans, centres, largest_plan = [], [], None
    if entity:
        largest = 0.70 * (min(build.trunk_width, 1.15 * build.trunk_depth) - 2.0 * frame.wall_mm)
        drawn = draw_plans(rng, entity, age, max(largest, 15.0))
        largest_plan = max(drawn, key=lambda plan: max(plan.diameters_mm))
        undisturbed = liver_shape(np.random.default_rng(liver_seed), canvas, coordinates, frame, rooms)
        outside = [plan["exophytic"] for plan in drawn]
        found = choose_centres(rng, canvas, undisturbed, [plan.diameters_mm for plan in drawn], outside, rooms.abdomen)
        plans = [plan for plan, centre in zip(drawn, found, strict=True) if centre]
        centres = [centre for centre in found if centre]
    viscera = push_aside(rng, canvas, coordinates, rooms.spine, [(c, p.diameters_mm) for c, p in zip(centres, plans, strict=True)])
    liver = liver_shape(np.random.default_rng(liver_seed), canvas, viscera, frame, rooms)
    exophytic = [(centre, plan.diameters_mm) for centre, plan in zip(centres, plans, strict=True) if plan["exophytic"]]
    liver = bulge(canvas, liver, rooms.abdomen, exophytic)

    vessels = draw_great_vessels(rng, frame, top + 10.0, bottom - 10.0)
    _paint_organs(np.random.default_rng(organ_seed), canvas, viscera, frame, rooms, liver, tissue, vessels, contrast)
    mimic_truth = _paint_mimics(rng, canvas, liver, contrast, tissue.hu, age)
    occupancies = _paint_lesions(rng, canvas, viscera, rooms, vessels, plans, centres, contrast, tissue.hu)
    paint_great_vessels(canvas, coordinates, vessels, contrast, rng.uniform(1.0, 1.5))

    landmarks = Landmarks(
        dome_z=0.0,
        pelvis_z=bottom - 90.0 * build.scale,
        back_y=frame.spine_front_y,
        front_y=-build.trunk_depth / 2,
        half_width=build.trunk_width / 2,
    )
    breathing = draw_breathing(rng, PHASES, age, REFERENCE)
    nodes = [np.arange(axis[0], axis[-1] + FIELD_STEP_MM, FIELD_STEP_MM) for axis in (canvas.z, canvas.y, canvas.x)]
    fields = {phase: displacement(breathing[phase], *nodes, landmarks) for phase in PHASES}
    phases = _scan(rng, canvas, protocol, fields)

    slices = slice_positions(protocol, canvas.z.astype(np.float64))
    labels, lesion_truth = _label(canvas, protocol, slices, occupancies, plans, centres)
    kept = _acquired_phases(rng)
    return PhantomExam(
        phases={phase: phases[phase] for phase in PHASES if phase in kept},
        lesions=labels,
        liver=_image((_at_slices(canvas.z, soft_step(liver, 1.0), slices) > 0.5).astype(np.uint8), protocol, slices),
        displacements={phase: _vector_image(fields[phase]) for phase in kept if phase != REFERENCE},
        truth={
            "seed": seed,
            "entity": entity,
            "class": ENTITY_CLASS[entity] if entity else None,
            "age_years": age,
            "sex": sex,
            "build": build.to_dict(),
            "contrast": contrast.to_dict(),
            "protocol": protocol.to_dict(),
            "breathing": {phase: breathing[phase].to_dict() for phase in kept},
            "largest_kept": any(plans[lesion["plan"]] is largest_plan for lesion in lesion_truth),
            "lesions": lesion_truth,
            "mimics": mimic_truth,
        },
        tissues=_image(_at_slices(canvas.z, canvas.tissues, slices), protocol, slices) if note_tissues else None,
    )


def _draw_scan(rng: np.random.Generator, build: Build, matrix: int, spacing: float | None) -> tuple[Protocol, float, float]:
    """Draw a protocol and the scanned range (top, bottom) in mm; ranges of too many slices are drawn again."""
    while True:
        protocol = draw_protocol(rng, build.trunk_width, build.trunk_depth, matrix=matrix)
        top = rng.uniform(4.0, 32.0) * (0.5 + 0.5 * build.scale)
        bottom = -build.liver_length * rng.uniform(1.02, 1.35)
        if spacing is not None:
            return replace(protocol, slice_spacing_mm=spacing, slice_thickness_mm=spacing), top, bottom
        if (top - bottom) / protocol.slice_spacing_mm <= MOST_SLICES:
            return protocol, top, bottom


def _canvas(protocol: Protocol, top: float, bottom: float) -> Canvas:
    per_slice = max(1, int(np.ceil(protocol.slice_spacing_mm / 1.8)))
    step = protocol.slice_spacing_mm / per_slice
    n_slices = int(np.floor((top - bottom) / protocol.slice_spacing_mm)) + 1
    z = bottom + np.arange((n_slices - 1) * per_slice + 1) * step
    y, x = pixel_positions(protocol)
    return Canvas(z.astype(np.float32), y, x)


def _bend(rng: np.random.Generator, canvas: Canvas, build: Build) -> Coordinates:
    """Return the frame's coordinates: the patient a little rotated and bent, no two alike."""
    angle = np.deg2rad(np.clip(rng.normal(0.0, 4.0), -12, 12))
    y, x = np.meshgrid(canvas.y, canvas.x, indexing="ij")
    turned = [np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x]
    amplitude = (1.5 + 3.0 * build.scale) * rng.uniform(0.6, 1.3)
    scale = 40.0 + 60.0 * build.scale
    # along the body's axis the outline changes slowly
    bends = [
        amplitude * factor * smooth_field(rng, canvas.z, canvas.y, canvas.x, scale, anisotropy)
        for factor, anisotropy in ((1.0, (1.0, 1.0, 1.0)), (1.0, (3.0, 1.0, 1.0)), (1.2, (3.0, 1.0, 1.0)))
    ]
    z = canvas.z[:, None, None] + bends[0]
    return Coordinates(z, turned[0][None] + bends[1], turned[1][None] + bends[2])


def _paint_organs(rng, canvas, c, frame: Frame, rooms, liver, tissue, vessels: GreatVessels, contrast) -> None:
    paint_psoas(canvas, c, frame, rooms)
    paint_bowel(rng, canvas, c, frame, rooms, liver, contrast)
    paint_pancreas(rng, canvas, c, frame, contrast)
    paint_kidneys(rng, canvas, c, frame, rooms, contrast)
    paint_spleen(rng, canvas, c, frame, rooms, contrast)
    paint_stomach(rng, canvas, c, frame, rooms, contrast)
    paint_liver(rng, canvas, liver, tissue)
    paint_gallbladder(rng, canvas, c, frame, contrast)
    inside = liver + 1.5
    candidates = np.argwhere(liver[::2, ::4, ::4] < -3.0) * (2, 4, 4)
    if len(candidates) < 30:
        return
    thinnest = 0.45 + 0.5 * frame.build.scale
    for root, radius, hu, count in (
        (vessels.hilum, vessels.portal_radius * 0.95, contrast.portal(), rng.integers(35, 80)),
        (vessels.confluence, vessels.cava_radius * rng.uniform(0.65, 0.9), _hepatic_vein(contrast), rng.integers(25, 60)),
        (vessels.hilum, vessels.portal_radius * 0.3, contrast.artery(), rng.integers(6, 14)),
    ):
        picked = candidates[rng.choice(len(candidates), count)]
        index = tuple(picked.T)
        targets = np.stack([c.z[index], c.y[index], c.x[index]], axis=1)
        paint_tree(canvas, c, grow_tree(rng, root, targets, radius, rng.uniform(0.2, 0.5)), hu, inside, thinnest)


def _hepatic_vein(contrast: Contrast) -> np.ndarray:
    """HU of hepatic venous blood: what leaves the liver, fed mostly through the portal vein."""
    return contrast.hu(Perfusion(contrast.blood, arterial=0.25, portal=0.75, blood_volume=0.0, interstitium=1.0, mean_transit_s=14.0))


def _paint_mimics(rng, canvas: Canvas, liver, contrast, liver_hu, age) -> list[dict]:
    """Paint what is not a tumour but may look like one; returns what was painted, for the truth."""
    truth = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.4, 0.3, 0.2, 0.1]))):
        plan = mimics.draw_mimic(rng, age)
        centre = choose_centres(rng, canvas, liver, [(8.0, 8.0, 8.0)])
        if centre[0] is None:
            break
        box = canvas.box(centre[0], plan.reach_mm)
        if box is None:
            continue
        grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
        hu, occupancy = mimics.paint(plan, rng, *grid, centre[0], contrast, liver_hu)
        canvas.paint(box, occupancy * soft_step(liver[box] + 0.5, canvas.pixel_mm), hu)
        truth.append({**plan.to_dict(), "centre_ras_mm": _ras(centre[0])})
    return truth


def _paint_lesions(rng, canvas, c, rooms, vessels, plans: list[LesionPlan], centres, contrast, liver_hu) -> list[tuple | None]:
    """Paint the lesions, kept out of wall, spine and great vessels; returns (box, occupancy) of each, None where it is out of range."""
    painted = []
    for plan, centre in zip(plans, centres, strict=True):
        box = canvas.box(centre, plan.reach_mm)
        if box is None:
            painted.append(None)
            continue
        grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
        hu, occupancy = paint(plan, rng, *grid, centre, contrast, liver_hu)
        allowed = soft_step(rooms.abdomen[box] - 1.0, canvas.pixel_mm) * soft_step(3.0 - rooms.spine[box], canvas.pixel_mm)
        for line, radius in ((vessels.aorta, vessels.aorta_radius + 1.5), (vessels.cava, 0.6 * vessels.cava_radius)):
            allowed *= 1.0 - soft_step(tube_distance(c.at(box), line, radius), canvas.pixel_mm)
        occupancy = occupancy * allowed
        canvas.paint(box, occupancy, hu)
        painted.append((box, occupancy))
    return painted


def _scan(rng, canvas: Canvas, protocol: Protocol, fields: Mapping[str, Displacement]) -> dict[str, sitk.Image]:
    slices = slice_positions(protocol, canvas.z.astype(np.float64))
    table = couch(protocol, canvas.y, canvas.x)[None]
    images = {}
    for number, phase in enumerate(PHASES):
        # the couch does not breathe
        world = np.maximum(warp(canvas.hu[number], canvas.z, canvas.y, canvas.x, fields[phase]), table)
        hu = acquire(rng, world, canvas.z, protocol)
        first, last = 0, len(slices)
        if phase != REFERENCE and rng.random() < 0.2:  # phases often cover different ranges
            first, last = int(rng.integers(0, 1 + last // 10)), last - int(rng.integers(0, 1 + last // 10))
        images[phase] = _image(hu[first:last], protocol, slices[first:last])
    return images


def _label(canvas, protocol, slices, occupancies, plans, centres) -> tuple[sitk.Image, list[dict]]:
    """Return the label image and each lesion's truth: plan, centre, box in RAS mm and in voxels (x0, y0, z0, x1, y1, z1; edges).

    A later lesion covers an earlier one; what is measured is what can be seen. "plan": the lesion's place among the plans. "cut": it
    touches the first or the last slice, so that a part of it may lie outside the scanned range.
    """
    shown = np.zeros((len(slices), len(canvas.y), len(canvas.x)), np.uint8)
    for place, painted in enumerate(occupancies):
        if painted is None:
            continue
        box, occupancy = painted
        whole = np.zeros((len(canvas.z), *occupancy.shape[1:]), np.float32)
        whole[box[0]] = occupancy
        shown[:, box[1], box[2]][_at_slices(canvas.z, whole, slices) > 0.5] = place + 1
    labels, truth = np.zeros_like(shown), []
    for place, (plan, centre) in enumerate(zip(plans, centres, strict=True)):
        found = np.argwhere(shown == place + 1)
        if len(found) < 4:
            continue
        label = len(truth) + 1
        labels[tuple(found.T)] = label
        low, high = found.min(0), found.max(0) + 1
        truth.append({
            **plan.to_dict(),
            "label": label,
            "plan": place,
            "cut": bool(low[0] == 0 or high[0] == len(slices)),
            "centre_ras_mm": _ras(centre),
            "box_index": [int(v) for v in (*low[::-1], *high[::-1])],
            "size_mm": [
                float(v) for v in (high - low)[::-1] * (protocol.pixel_mm, protocol.pixel_mm, protocol.slice_spacing_mm)
            ],
            "volume_ml": float(len(found) * protocol.pixel_mm**2 * protocol.slice_spacing_mm / 1000.0),
        })
    return _image(labels, protocol, slices), truth


def _at_slices(z: np.ndarray, volume: np.ndarray, slices: np.ndarray) -> np.ndarray:
    """Sample a fine volume at the slices' centres, which are among its own."""
    return volume[np.searchsorted(z, slices - 1e-3)]


def _acquired_phases(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw which phases an exam has: all four in 80 %; PVP always, since its grid carries the truth."""
    if rng.random() < 0.8:
        return PHASES
    return tuple(phase for phase in PHASES if phase == REFERENCE or rng.random() < 0.5)


def _ras(centre_zyx: tuple[float, float, float]) -> list[float]:
    return [float(-centre_zyx[2]), float(-centre_zyx[1]), float(centre_zyx[0])]


def _image(array: np.ndarray, protocol: Protocol, slices: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    y, x = pixel_positions(protocol)
    image.SetSpacing((protocol.pixel_mm, protocol.pixel_mm, protocol.slice_spacing_mm))
    image.SetOrigin((float(x[0]), float(y[0]), float(slices[0])))
    return image


def _vector_image(field: Displacement) -> sitk.Image:
    """Return a displacement as a vector image with components (x, y, z), float32 mm, LPS."""
    image = sitk.GetImageFromArray(np.moveaxis(field.vectors[::-1], 0, -1).astype(np.float32), isVector=True)
    image.SetSpacing((FIELD_STEP_MM,) * 3)
    image.SetOrigin((float(field.x[0]), float(field.y[0]), float(field.z[0])))
    return image
