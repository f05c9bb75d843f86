"""FNH: bright in AP and even, iso afterwards, a stellate scar that is dark early and bright late (83 %), septa (92 %), lobulated.

PVP isodense in 58 % and DP in 92 % of 12 children (the project's clinical table); other numbers are assumptions.
"""

from __future__ import annotations

import numpy as np

from .plan import LesionPlan, contour, diameters
from .tumour import Tumour, above


def draw_fnh(rng: np.random.Generator, age_years: float, limit_mm: float) -> LesionPlan:
    """Draw a focal nodular hyperplasia: "scar" or "plain"."""
    size = diameters(rng, 53, 0.46, 12, 140, limit_mm)
    variant = "scar" if rng.random() < 0.83 else "plain"
    iso_pvp = rng.random() < 0.58
    iso_dp = rng.random() < 0.92
    parameters = contour(rng, (0, 7), (0.6, 2.4), (0.2, 1.6)) | {
        "unenhanced_offset": rng.normal(-6, 6),
        "ap_excess": rng.uniform(18, 85),
        "pvp_offset": rng.normal(2, 4) if iso_pvp else rng.uniform(8, 28),
        "dp_offset": rng.normal(0, 3.5) if iso_dp else rng.choice([-1, 1]) * rng.uniform(6, 15),
        "texture": rng.uniform(0.03, 0.14),
        "scar_size": rng.uniform(0.08, 0.26),
        "scar_arms": int(rng.integers(3, 8)),
        "scar_late": rng.uniform(2, 30),
        "scar_shift": rng.uniform(0.0, 0.22),
        "septa": float(rng.random() < 0.92),
        "capsule": float(rng.random() < 0.12),
        "feeder": float(rng.random() < 0.4),
    }
    return LesionPlan("FNH", variant, age_years, size, parameters)


def stellate(tumour: Tumour, size: float, arms: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """A star about the lesion's (shifted) middle: (scar, septa), each 0..1.

    Every arm is a half plane through the middle, thick near it and thin outward; the septa are the arms' far ends.
    """
    rng = tumour.rng
    radius = tumour.radius_mm
    middle = rng.standard_normal(3)
    middle *= shift * radius / np.linalg.norm(middle)
    bend = 0.07 * radius * tumour.field(max(0.4 * radius, 5.0))
    relative = [o - np.float32(m) for o, m in zip(tumour.offsets, middle, strict=True)]
    distance = np.sqrt(sum(o**2 for o in relative)) / np.float32(radius)
    plane_distance = np.full(distance.shape, 1e3, np.float32)
    # the normals lie mostly across the table axis, so that axial slices cut the arms
    for _ in range(int(arms)):
        azimuth, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.35)
        normal = np.array([np.sin(tilt), np.cos(tilt) * np.sin(azimuth), np.cos(tilt) * np.cos(azimuth)], np.float32)
        along = np.array([0.0, np.cos(azimuth), -np.sin(azimuth)], np.float32)
        off_plane = np.abs(sum(o * n for o, n in zip(relative, normal, strict=True)) + bend)
        behind = -(relative[1] * along[1] + relative[2] * along[2])
        np.minimum(plane_distance, np.maximum(off_plane, behind), out=plane_distance)
    half = np.maximum(size * radius * (0.75 - distance / (3.2 * size + 0.25)), 0)
    scar = np.maximum(above(half - plane_distance, 0.0, 1.6), above(-distance, -size * 0.8, 0.08))
    scar *= above(half, 0.3, 0.6)
    septa = above(-plane_distance, -0.9, 1.2) * above(-distance, -0.95, 0.2)
    return scar, septa


def paint_fnh(tumour: Tumour) -> None:
    """Liver with an arterial excess; the scar runs behind it, then ahead."""
    plan, rng = tumour.plan, tumour.rng
    liver = tumour.liver
    # the arterial excess follows how strong the bolus is in AP (a late or weak one shows less)
    strength = float(np.clip(tumour.blood_gain[1] / 240, 0.35, 1.4))
    body = liver + np.array([plan["unenhanced_offset"], plan["ap_excess"] * strength, plan["pvp_offset"], plan["dp_offset"]], np.float32)
    tumour.fill(body)
    grain = tumour.field(max(4.0, 0.25 * tumour.radius_mm))
    tumour.modulate(grain, [1.0, plan["texture"] * plan["ap_excess"] * strength, 2.0, 1.0])
    if plan.variant == "scar":
        scar, septa = stellate(tumour, plan["scar_size"], int(plan["scar_arms"]), plan["scar_shift"])
        late = plan["scar_late"]
        tissue = liver + np.array([-16, -6, -0.35 * (34 - late), late], np.float32)
        tissue[1] = min(tissue[1], body[1] - 18)
        if plan["septa"]:
            tumour.blend(0.55 * septa, tissue)
        tumour.blend(0.92 * scar, tissue)
    elif plan["septa"]:
        _, septa = stellate(tumour, 0.08, int(plan["scar_arms"]), plan["scar_shift"])
        tumour.blend(0.4 * septa, liver + np.array([-8, 0, -4, 6], np.float32))
    if plan["feeder"] and tumour.radius_mm > 12:
        vessel = tumour.tubes(0.6 * tumour.radius_mm, 0.13) * above(tumour.depth, 0.3 * tumour.radius_mm, tumour.radius_mm * 0.4)
        tumour.blend(0.8 * vessel, tumour.blood_pool(0.85))
    if plan["capsule"]:
        tumour.blend(0.5 * tumour.rim(rng.uniform(1.0, 1.8)), liver + np.array([-4, 2, 6, 16], np.float32))
