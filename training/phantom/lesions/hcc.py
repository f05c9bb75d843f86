"""HCC: bright in AP without a rim pattern (87 %), washout (48 %), capsule (23 %; MCT-LTDiag), mosaic; and a fibrolamellar variant."""

from __future__ import annotations

import numpy as np

from .fnh import stellate
from .malignant import bleed, necrosis
from .plan import LesionPlan, contour, diameters
from .tumour import Tumour, above


def draw_hcc(rng: np.random.Generator, age_years: float, limit_mm: float) -> LesionPlan:
    """Draw a hepatocellular carcinoma: "mosaic", "even" (smaller), "infiltrative" or "fibrolamellar" (older children)."""
    size = diameters(rng, 70, 0.55, 14, 190, limit_mm)
    fibrolamellar = age_years > 9 and rng.random() < 0.2 and max(size) > 40
    if fibrolamellar:
        variant = "fibrolamellar"
    elif max(size) < 40:
        variant = "even" if rng.random() < 0.7 else "mosaic"
    else:
        variant = str(rng.choice(["mosaic", "even", "infiltrative"], p=[0.66, 0.12, 0.22]))
    bright = rng.random() < 0.87
    washout = rng.random() < 0.78  # 48 % in adults by strict criteria; here also what falls to iso
    infiltrative = variant == "infiltrative"
    parameters = contour(rng, (0, 4), (2.0, 6.0) if infiltrative else (0.6, 2.2), (1.5, 4.0) if infiltrative else (0.0, 1.4)) | {
        "unenhanced": rng.uniform(38, 62),
        "ap": rng.uniform(0.25, 0.46) if bright else rng.uniform(0.10, 0.22),
        "pvp": rng.uniform(0.34, 0.85),
        "fall": rng.uniform(0.5, 0.85) if washout else rng.uniform(0.9, 1.1),
        "nodules": int(np.clip(rng.normal(6 + max(size) / 7, 4), 3, 36)),
        "mosaic": rng.uniform(0.3, 0.7) if variant == "mosaic" else rng.uniform(0.05, 0.25),
        "wall_mm": rng.uniform(0.5, 1.5) if variant == "mosaic" else 0.0,
        "fat": float(rng.uniform(0.1, 0.4) if rng.random() < 0.2 else 0.0),
        "capsule": float(rng.uniform(0.5, 1.0) if rng.random() < (0.65 if variant in ("mosaic", "even") else 0.05) else 0.0),
        "capsule_mm": rng.uniform(1.0, 2.6),
        "necrosis": rng.beta(1.1, 5.0) * (0.8 if max(size) > 50 else 0.3),
        "necrosis_offset": rng.uniform(0, 1),
        "bleeding": float(rng.uniform(0.1, 0.5) if rng.random() < 0.12 else 0.0),
        "calcium": float(rng.uniform(0.003, 0.02) if rng.random() < (0.6 if fibrolamellar else 0.08) else 0.0),
        "scar_size": rng.uniform(0.10, 0.24),
        "vessels": float(rng.uniform(0.12, 0.2) if rng.random() < 0.45 else 0.0),
    }
    return LesionPlan("HCC", variant, age_years, size, parameters)


def paint_hcc(tumour: Tumour) -> None:
    """A mosaic of nodules that take up and lose contrast each in its own way."""
    plan, rng = tumour.plan, tumour.rng
    radius, count = tumour.radius_mm, int(plan["nodules"])
    viable = tumour.tissue(plan["unenhanced"], plan["ap"], plan["pvp"], plan["pvp"] * plan["fall"])
    tumour.fill(viable)
    gain = viable - viable[0]
    index, wall = tumour.cells(count, bend=rng.uniform(0.15, 0.45))
    early = rng.standard_normal(count).astype(np.float32) * np.float32(plan["mosaic"])
    late = 0.5 * early + rng.standard_normal(count).astype(np.float32) * np.float32(0.35 * plan["mosaic"])
    grain = rng.uniform(0.08, 0.22) * tumour.field(max(0.12 * radius, 3.5))
    softness = rng.uniform(0.01, 0.09) * radius
    tumour.modulate(tumour.diffuse(np.clip(early, -0.75, 1.0)[index], softness) + grain, [4.0, gain[1], 0, 0])
    tumour.modulate(tumour.diffuse(late[index], softness) + 0.5 * grain, [0, 0, 0.55 * gain[2], 0.45 * gain[3]])
    if plan["fat"]:
        fatty = (rng.random(count) < plan["fat"]).astype(np.float32)[index] * above(wall, 0.5, 1.5)
        tumour.modulate(fatty, [-26, -30, -32, -30])
    if plan["wall_mm"]:
        tumour.blend(0.6 * above(plan["wall_mm"] - wall, 0.0, 1.2), tumour.tissue(plan["unenhanced"] - 4, 0.1, 0.4, 0.62))
    if plan["vessels"]:
        tumour.blend(0.8 * tumour.tubes(max(0.35 * radius, 8.0), plan["vessels"]), tumour.blood_pool(0.85))
    if plan.variant == "infiltrative":
        # liver left between tongues of tumour
        spared = above(tumour.field(max(0.25 * radius, 6.0)), 0.9, 0.7)
        tumour.blend(0.8 * spared, tumour.liver)
    dead = necrosis(tumour, plan["necrosis"], plan["necrosis_offset"], rng.uniform(0.2, 0.7))
    tumour.blend(dead, tumour.tissue(rng.uniform(12, 34), 0.01, 0.03, 0.05))
    if plan["bleeding"]:
        bleed(tumour, np.maximum(dead, 0.3), rng.uniform(54, 74), plan["bleeding"])
    if plan.variant == "fibrolamellar":
        # unlike in FNH the scar stays dark, also late
        scar, septa = stellate(tumour, plan["scar_size"], int(rng.integers(3, 7)), 0.15)
        fibrous = tumour.tissue(rng.uniform(30, 44), 0.04, 0.1, 0.2)
        tumour.blend(0.5 * septa, fibrous)
        tumour.blend(0.9 * scar, fibrous)
        if plan["calcium"]:
            tumour.calcify(plan["calcium"], rng.uniform(3.5, 7), rng.uniform(160, 480), np.maximum(scar, 0.15))
    elif plan["calcium"]:
        tumour.calcify(plan["calcium"], 4.0, rng.uniform(150, 350))
    if plan["capsule"]:
        tumour.blend(plan["capsule"] * tumour.rim(plan["capsule_mm"]), tumour.tissue(plan["unenhanced"], 0.1, 0.55, 0.95))
