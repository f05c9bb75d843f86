"""Painted tumours and mimics behave as the clinical table says, and mean HU alone does not give the class away."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import numpy as np
import pytest
from PediatricLiverDxLib.vocabulary import ENTITY_CLASS, MALIGNANT

from training.phantom import mimics
from training.phantom.kinetics import Contrast
from training.phantom.lesions import ENTITIES, draw_age, draw_entity_count, draw_plan, draw_plans, paint

USUAL = Contrast(
    times_s=(21.0, 58.0, 125.0),
    first_pass=205.0,
    plateau=152.0,
    arrival_peak_s=18.0,
    decay_s=165.0,
    gut_transit_s=10.0,
    blood=43.0,
)
LIVER = np.array([67.0, 84.0, 114.0, 96.0], np.float32)
CENTRE = (10.0, -30.0, 40.0)


def box(reach_mm):
    """Coordinates (z, y, x) around CENTRE, 3 x 1.5 x 1.5 mm."""
    return [np.arange(c - r, c + r, step, dtype=np.float32) for c, r, step in zip(CENTRE, reach_mm, (3.0, 1.5, 1.5), strict=True)]


@cache
def painted(entity, seed, limit_mm=60.0):
    rng = np.random.default_rng([seed, ENTITIES.index(entity)])
    plan = draw_plan(rng, entity, draw_age(rng, entity), limit_mm)
    hu, occupancy = paint(plan, rng, *box(plan.reach_mm), CENTRE, USUAL, LIVER)
    return plan, hu, occupancy


def plans_of(entity, variants, count):
    """The first `count` seeds whose lesion is of one of the variants and not tiny."""
    found = []
    for seed in range(400):
        plan, hu, occupancy = painted(entity, seed)
        if plan.variant in variants and max(plan.diameters_mm) > 25:
            found.append((plan, hu, occupancy))
        if len(found) == count:
            return found
    raise AssertionError(f"fewer than {count} of {entity} {variants}")


@pytest.mark.parametrize("entity", ENTITIES)
def test_every_entity_paints_finite_hu_and_soft_occupancy(entity):
    for seed in range(6):
        plan, hu, occupancy = painted(entity, seed)
        assert hu.dtype == occupancy.dtype == np.float32
        assert hu.shape == (4, *occupancy.shape)
        assert np.isfinite(hu).all()
        assert occupancy.min() == 0 and 0.9 < occupancy.max() <= 1
        inside = hu[:, occupancy > 0.5]
        assert inside.min() > -40 and inside.max() < 900
        assert max(plan.diameters_mm) <= 60


@pytest.mark.parametrize("entity", ENTITIES)
def test_lesion_has_about_its_diameters_and_fits_its_box(entity):
    ratios = []
    for seed in range(8):
        plan, _, occupancy = painted(entity, seed)
        inside = occupancy > 0.5
        extent = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        lengths = [(e[-1] - e[0] + 1) * step for e, step in zip(extent, (3.0, 1.5, 1.5), strict=True)]
        ratios.append(np.prod(np.array(lengths) / plan.diameters_mm) ** (1 / 3))
        assert max(inside[0].max(), inside[-1].max(), inside[:, 0].max(), inside[:, -1].max()) == 0
    assert 0.75 < np.mean(ratios) < 1.2


def test_a_small_lesion_is_not_lost_in_its_own_roughness():
    """A diffuse hemangioma's lesions of about a centimetre, as rough as the roughest large one."""
    shares = []
    for seed in range(30):
        rng = np.random.default_rng([seed, 7])
        plan = draw_plan(rng, "IHH", 0.5, 13.0)
        plan = dataclasses.replace(plan, parameters={**plan.parameters, "roughness_mm": 2.5, "lobes": 0})
        grid = [np.arange(c - r, c + r, 0.7, dtype=np.float32) for c, r in zip(CENTRE, plan.reach_mm, strict=True)]
        _, occupancy = paint(plan, rng, *grid, CENTRE, USUAL, LIVER)
        shares.append((occupancy > 0.5).sum() * 0.7**3 / (np.prod(plan.diameters_mm) * np.pi / 6))
    assert min(shares) > 0.4


@pytest.mark.parametrize("entity", ENTITIES)
def test_sizes_of_satellites_are_spread(entity):
    sizes = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        sizes += [max(plan.diameters_mm) for plan in draw_plans(rng, entity, draw_age(rng, entity), 90.0)]
    _, counts = np.unique(np.round(sizes, 2), return_counts=True)
    assert min(sizes) >= 7.7 and counts.max() < 0.03 * len(sizes)



@pytest.mark.parametrize("entity", ["HH", "FNH", "HB"])
def test_same_seed_same_voxels_other_seed_other_voxels(entity):
    _, hu, occupancy = painted.__wrapped__(entity, 3)
    _, again, occupancy_again = painted.__wrapped__(entity, 3)
    np.testing.assert_array_equal(hu, again)
    np.testing.assert_array_equal(occupancy, occupancy_again)
    assert painted(entity, 4)[0] != painted(entity, 3)[0]


def test_plans_are_written_to_json():
    for entity in ENTITIES:
        plan = painted(entity, 1)[0]
        assert json.loads(json.dumps(plan.to_dict()))["entity"] == entity


def test_hemangioma_fills_from_the_outside_in():
    for plan, hu, occupancy in plans_of("HH", ("nodular", "giant"), 8):
        inside = occupancy > 0.99
        pool = [0.5 * (plan[f"pool_{phase}"]) * gain for phase, gain in zip(("ap", "pvp", "dp"), (USUAL.artery() - 43)[1:], strict=True)]
        filled = [(hu[p] - hu[0] > pool[p - 1])[inside].mean() for p in (1, 2, 3)]
        assert filled[0] <= filled[1] + 0.02 and filled[1] <= filled[2] + 0.02
        assert filled[2] > filled[0]
    # what is filled early lies nearer the surface than what is filled late
    edge, middle = [], []
    for _, hu, occupancy in plans_of("HH", ("nodular", "giant"), 8):
        z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in occupancy.shape), indexing="ij")
        radius = np.sqrt(z**2 + y**2 + x**2)
        inside = occupancy > 0.99
        median = np.median(radius[inside])
        gain = hu[1] - hu[0]
        edge.append(gain[inside & (radius > median)].mean())
        middle.append(gain[inside & (radius <= median)].mean())
    assert np.mean(edge) > np.mean(middle) + 10


def test_flash_hemangioma_is_bright_at_once():
    for seed in range(200):
        plan, hu, occupancy = painted("HH", seed, 24.0)
        if plan.variant == "flash" and plan["core"] == 0:
            assert np.median(hu[1][occupancy > 0.9]) > LIVER[1] + 20
            return
    raise AssertionError("no flash-filling hemangioma in 200")


def test_fnh_is_bright_in_ap_and_iso_in_dp():
    late = []
    for _, hu, occupancy in plans_of("FNH", ("scar", "plain"), 12):
        inside = occupancy > 0.99
        assert np.median(hu[1][inside]) > LIVER[1] + 5
        late.append(abs(np.median(hu[3][inside]) - LIVER[3]))
    assert np.median(late) < 6


def test_fnh_scar_is_dark_early_and_brightens():
    behind = []
    for _, hu, occupancy in plans_of("FNH", ("scar",), 8):
        inside = occupancy > 0.99
        excess = hu[1][inside] - np.median(hu[1][inside])
        scar = excess < -12
        assert 0.002 < scar.mean() < 0.5
        late = hu[3][inside]
        behind.append(late[scar].mean() - np.median(late))
    assert np.mean(behind) > 3


@pytest.mark.parametrize("entity", ["HB", "HCC"])
def test_malignant_tumours_mostly_wash_out_against_liver(entity):
    falls = []
    for seed in range(16):
        _, hu, occupancy = painted(entity, seed)
        inside = occupancy > 0.99
        if not inside.any():
            continue
        relative = np.median(hu[:, inside], axis=1) - LIVER
        falls.append(relative[1] - relative[3])
    assert np.median(falls) > 5
    assert np.mean(np.array(falls) > 0) > 0.6


def test_hamartoma_cysts_do_not_enhance_but_septa_do():
    for _, hu, occupancy in plans_of("HMH", ("cystic",), 3):
        inside = occupancy > 0.99
        gain = (hu[3] - hu[0])[inside]
        assert (np.abs(gain) < 6).mean() > 0.2
        assert np.quantile(gain, 0.98) > 15


def test_sarcoma_is_water_like_and_its_rim_comes_late():
    for _, hu, occupancy in plans_of("UESL", ("cystic",), 3):
        inside = occupancy > 0.99
        assert np.median(hu[2][inside]) < LIVER[2] - 30
        gain = (hu - hu[0])[:, (occupancy > 0.3) & (occupancy < 0.8)].mean(axis=1)
        assert gain[3] > gain[1]


def test_counts_follow_the_clinical_table():
    rng = np.random.default_rng(0)
    counts = np.array([draw_entity_count(rng, "IHH", 1.0) for _ in range(3000)])
    assert abs((counts == 1).mean() - 0.80) < 0.03
    assert abs((counts >= 10).mean() - 0.07) < 0.02
    assert np.mean([draw_entity_count(rng, "UESL", 7.0) for _ in range(300)]) < 1.3


@pytest.mark.parametrize("entity", ENTITIES)
def test_lesions_of_one_exam_are_kin_and_can_be_painted(entity):
    rng = np.random.default_rng(7)
    plans = next(p for p in (draw_plans(rng, entity, draw_age(rng, entity), 60.0) for _ in range(400)) if len(p) > 1)
    assert [max(p.diameters_mm) for p in plans] == sorted((max(p.diameters_mm) for p in plans), reverse=True)
    assert len({p["unenhanced" if "unenhanced" in p.parameters else "border_mm"] for p in plans}) == 1
    for plan in plans:
        hu, _ = paint(plan, rng, *box(plan.reach_mm), CENTRE, USUAL, LIVER)
        assert np.isfinite(hu).all()
    if entity == "IHH":
        assert {plan.variant for plan in plans} == {"small"}


def test_ages_follow_the_clinical_table():
    rng = np.random.default_rng(0)
    ages = {entity: np.array([draw_age(rng, entity) for _ in range(1500)]) for entity in ENTITIES}
    assert abs(12 * ages["IHH"].mean() - 17) < 2.5
    assert (ages["HB"] < 5).mean() > 0.82
    assert (ages["HMH"] < 2).mean() > 0.5
    assert 5 < np.median(ages["UESL"]) < 10
    assert np.median(ages["HCC"]) > 10
    assert abs(np.median(ages["FNH"]) - 8.6) < 1


def test_mean_hu_does_not_tell_benign_from_malignant():
    """Fisher's linear discriminant on the box's mean HU in four phases, fitted and scored on the same lesions, stays below 0.85."""
    shares = {"HH": 40, "IHH": 12, "FNH": 12, "HMH": 8, "HB": 40, "UESL": 14, "HCC": 18}
    features, malignant = [], []
    for entity, count in shares.items():
        for seed in range(1000, 1000 + count):
            _, hu, occupancy = painted(entity, seed, 50.0)
            inside = np.argwhere(occupancy > 0.5)
            window = tuple(slice(a, b + 1) for a, b in zip(inside.min(axis=0), inside.max(axis=0), strict=True))
            weight = occupancy[window]
            features.append([(h[window] * weight + level * (1 - weight)).mean() for h, level in zip(hu, LIVER, strict=True)])
            malignant.append(ENTITY_CLASS[entity] in MALIGNANT)
    features, malignant = np.array(features), np.array(malignant)
    spread = sum(np.cov(features[side].T) for side in (malignant, ~malignant))
    score = features @ np.linalg.solve(spread, features[malignant].mean(axis=0) - features[~malignant].mean(axis=0))
    auc = (score[malignant][:, None] > score[~malignant][None]).mean()
    assert 0.5 < auc < 0.85


@pytest.mark.parametrize("kind", sorted(mimics.SHARES))
def test_mimics_paint_what_they_are(kind):
    rng = np.random.default_rng(5)
    plan = next(p for p in (mimics.draw_mimic(rng, 8.0) for _ in range(500)) if p.kind == kind)
    hu, occupancy = mimics.paint(plan, rng, *box(plan.reach_mm), CENTRE, USUAL, LIVER)
    assert hu.shape == (4, *occupancy.shape) and np.isfinite(hu).all()
    assert occupancy.min() >= 0 and occupancy.max() <= 1
    assert json.dumps(plan.to_dict())
    inside = hu[:, occupancy > 0.5]
    if kind in ("cyst", "dilated ducts", "calcified granuloma") and inside.size:
        assert np.ptp(inside.mean(axis=1)) < 1
    if kind == "arterial perfusion difference":
        excess = inside.mean(axis=1) - LIVER
        assert excess[1] > 5 and np.abs(excess[[0, 2, 3]]).max() < 10
    if kind == "focal fat":
        assert (inside.mean(axis=1) < LIVER - 10).all()
