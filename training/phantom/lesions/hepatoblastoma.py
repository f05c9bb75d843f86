"""HB: large and lobulated, uneven in AP, washing out; necrosis, bleeding, calcium (chunky, osteoid in the mixed type), pseudocapsule."""

from __future__ import annotations

import numpy as np

from .malignant import bleed, necrosis
from .plan import LesionPlan, contour, diameters
from .tumour import Tumour, above


def draw_hb(rng: np.random.Generator, age_years: float, limit_mm: float) -> LesionPlan:
    """Draw a hepatoblastoma: "epithelial" (more even) or "mixed" (epithelial-mesenchymal: septa, osteoid)."""
    size = diameters(rng, 76, 0.52, 15, 190, limit_mm)
    variant = "epithelial" if rng.random() < 0.55 else "mixed"
    mixed = variant == "mixed"
    strong = rng.random() < 0.35
    pvp = rng.uniform(0.28, 0.80)
    parameters = contour(rng, (4, 10), (0.7, 3.5), (0.3, 2.5)) | {
        "unenhanced": rng.uniform(34, 60),
        "ap": rng.uniform(0.24, 0.46) if strong else rng.uniform(0.10, 0.26),
        "pvp": pvp,
        "dp": pvp * rng.uniform(0.80, 1.2),
        "nodules": int(np.clip(rng.normal(8 + max(size) / 9, 5), 4, 34)),
        "nodule_spread": rng.uniform(0.15, 0.5),
        "streak": rng.uniform(0.12, 0.42),
        "septa_mm": rng.uniform(0.6, 2.4) if mixed else rng.uniform(0.0, 1.3),
        "septa_late": rng.uniform(0.3, 0.7),
        "necrosis": rng.beta(1.3, 4.0) * (0.75 if max(size) > 45 else 0.3),
        "necrosis_offset": rng.uniform(0, 1),
        "necrosis_hu": rng.uniform(10, 36),
        "bleeding": float(rng.uniform(0.15, 0.8) if rng.random() < 0.3 else 0.0),
        "bleeding_hu": rng.uniform(54, 76),
        "calcium": float(rng.uniform(0.004, 0.05) if rng.random() < (0.8 if mixed else 0.28) else 0.0),
        "chunk_mm": rng.uniform(6, 13) if mixed else rng.uniform(3.5, 7),
        "calcium_hu": rng.uniform(150, 650),
        "capsule": float(rng.uniform(0.3, 0.8) if rng.random() < 0.45 else 0.0),
        "vessels": float(rng.uniform(0.08, 0.17) if rng.random() < 0.5 else 0.0),
    }
    return LesionPlan("HB", variant, age_years, size, parameters)


def paint_hb(tumour: Tumour) -> None:
    """Nodules of unequal uptake between fibrous bands, then what is dead, bled or calcified."""
    plan, rng = tumour.plan, tumour.rng
    count, radius = int(plan["nodules"]), tumour.radius_mm
    viable = tumour.tissue(plan["unenhanced"], plan["ap"], plan["pvp"], plan["dp"])
    tumour.fill(viable)
    index, wall = tumour.cells(count, bend=rng.uniform(0.2, 0.5))
    own = rng.standard_normal(count).astype(np.float32) * np.float32(plan["nodule_spread"])
    edge = above(wall, 0.8, 2.0)
    streaks = tumour.field(max(0.22 * radius, 4.0)) * 0.6 + tumour.field(max(0.09 * radius, 3.0)) * 0.4
    uneven = tumour.diffuse(own[index], rng.uniform(0.04, 0.16) * radius) * (0.4 + 0.6 * edge) + np.float32(plan["streak"]) * streaks
    gain = viable - viable[0]
    tumour.modulate(uneven, [3.0, gain[1], 0.6 * gain[2], 0.4 * gain[3]])
    if plan["septa_mm"] > 0.3:
        bands = above(plan["septa_mm"] - wall, 0.0, 1.4) * 0.7
        tumour.blend(bands, tumour.tissue(plan["unenhanced"] - 6, 0.35 * plan["ap"], 0.6 * plan["pvp"], plan["septa_late"]))
    if plan["vessels"]:
        tumour.blend(0.6 * tumour.tubes(max(0.4 * radius, 9.0), plan["vessels"]), tumour.blood_pool(0.8))
    dead = necrosis(tumour, plan["necrosis"], plan["necrosis_offset"], rng.uniform(0.25, 0.8))
    tumour.blend(dead, tumour.tissue(plan["necrosis_hu"], 0.01, 0.04, 0.06))
    if plan["bleeding"]:
        bleed(tumour, np.maximum(dead, 0.25 * above(streaks, 0.9, 0.4)), plan["bleeding_hu"], plan["bleeding"])
    if plan["calcium"]:
        tumour.calcify(plan["calcium"], plan["chunk_mm"], plan["calcium_hu"])
    if plan["capsule"]:
        tumour.blend(plan["capsule"] * tumour.rim(rng.uniform(1.0, 2.2)), tumour.tissue(plan["unenhanced"] - 2, 0.12, 0.42, 0.7))
