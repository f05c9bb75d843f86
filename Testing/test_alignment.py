"""Phases onto one grid: known motion is undone, a still exam is left alone, grids and extents may differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib.alignment import align, local_correlation
from PediatricLiverDxLib.displacement import estimate_displacement, folds
from PediatricLiverDxLib.exam import exam_from_images
from PediatricLiverDxLib.vocabulary import PHASES, InputError

REAL_CT = Path(__file__).parents[2] / "shared" / "ct" / "totalsegmentator" / "example_ct.nii.gz"

#: Voxels along z, y, x and their edge in mm.
SHAPE, SPACING = (48, 72, 96), (3.0, 2.4, 2.4)

#: HU of liver, vessels, kidneys by phase.
ENHANCEMENT = {"PC": (62, 42, 42), "AP": (80, 90, 175), "PVP": (112, 175, 180), "DP": (98, 122, 150)}

STILL = (0.0, 0.0, 0.0)


def millimetres() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates z, y, x of every voxel, zero at the centre."""
    return np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True)), indexing="ij")


def breathing(motion: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Displacement (z, y, x) in mm: `motion` under the diaphragm, fading to the pelvis, the spine and the body wall."""
    z, y, x = millimetres()
    share = 1 / (1 + np.exp(-(z + 35) / 9)) / (1 + np.exp(((x / 96) ** 2 + (y / 66) ** 2 - 1) * 14))
    share *= 1 - np.exp(-((x / 22) ** 2) - ((y - 48) / 22) ** 2)
    return tuple(part * share for part in motion)


def abdomen(phase: str, motion: tuple[float, float, float] = STILL, seed: int = 0, gas_x: float = 45.0) -> tuple[sitk.Image, np.ndarray]:
    """CT of body, lungs, liver with vessels, kidneys, spine and gas, at p showing what lies at p + motion when still; and the liver."""
    z, y, x = (c + d for c, d in zip(millimetres(), breathing(motion), strict=True))
    liver_hu, vessel_hu, kidney_hu = ENHANCEMENT[phase]

    def ball(cz: float, cy: float, cx: float, rz: float, ry: float, rx: float) -> np.ndarray:
        return ((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1

    hu = np.full(SHAPE, -1000.0)
    hu[(x / 108) ** 2 + (y / 78) ** 2 < 1] = -95
    hu[(x / 102) ** 2 + (y / 72) ** 2 < 1] = 55
    cavity = (x / 94) ** 2 + (y / 64) ** 2 < 1
    hu[cavity] = -80
    hu[ball(-20, -10, 40, 12, 18, 22)] = 30
    hu[ball(-18, -18, gas_x, 9, 12, 16)] = -950
    liver = (ball(12, -4, -38, 46, 50, 52) | ball(22, -22, 5, 20, 26, 44)) & cavity & (z < 44 - 0.003 * (x + 30) ** 2)
    hu[liver] = liver_hu
    hu[liver & (np.hypot(z - 10, y - 4) < 6)] = vessel_hu
    hu[liver & (np.hypot(y + 14 + 0.3 * z, x + 42) < 5)] = vessel_hu
    for side in (-1, 1):
        hu[ball(-25, 30, 45 * side, 26, 15, 14)] = kidney_hu
    hu[cavity & (z > 44 - 0.003 * (x + 30) ** 2)] = -840
    hu[np.hypot(x, y - 48) < 15] = 330
    noise = np.random.default_rng([seed, PHASES.index(phase)]).normal(0, 8, SHAPE)
    image = sitk.GetImageFromArray((hu + noise).clip(-1024).astype(np.int16))
    image.SetSpacing(SPACING[::-1])
    return image, liver


def errors_mm(field: sitk.Image, reference: sitk.Image, truth_zyx: tuple[np.ndarray, ...], where: np.ndarray) -> np.ndarray:
    """Lengths of (estimated - true) displacement at the voxels `where`."""
    dense = sitk.GetArrayFromImage(sitk.Resample(field, reference, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0))
    return np.linalg.norm(dense[where] - np.stack(truth_zyx[::-1], axis=-1)[where], axis=-1)


@pytest.mark.parametrize("phase", ["PC", "AP", "DP"])
@pytest.mark.parametrize("motion", [(12.0, 1.0, 0.0), (-9.0, -1.0, -0.5), (4.0, 1.0, 0.0)])
def test_known_breathing_is_undone_inside_the_liver(phase, motion):
    moving, _ = abdomen(phase)
    reference, liver = abdomen("PVP", motion)
    field = estimate_displacement(reference, moving)
    assert np.median(errors_mm(field, reference, breathing(motion), liver)) <= 2.0
    assert not folds(field)


def test_the_accepted_alignment_shows_the_same_anatomy():
    motion = (11.0, 2.0, 0.0)
    moving, _ = abdomen("AP")
    reference, liver = abdomen("PVP", motion)
    undisturbed, _ = abdomen("AP", motion, seed=3)
    aligned = align(exam_from_images({"AP": moving, "PVP": reference}))
    verdict = aligned.alignment["AP"]
    assert verdict.status == "aligned"
    assert verdict.similarity_after > verdict.similarity_before
    assert 0 < verdict.mean_displacement_mm < verdict.max_displacement_mm < 20
    truth = sitk.GetArrayFromImage(undisturbed)[liver].astype(float)
    before, after = (
        np.abs(volume[liver] - truth).mean() for volume in (sitk.GetArrayFromImage(moving).astype(float), aligned.hu[1])
    )
    assert after < 0.6 * before


@pytest.mark.parametrize("gas_x", [45.0, 25.0], ids=["same gas", "gas that wandered"])
def test_an_exam_without_motion_keeps_its_voxels(gas_x):
    images = {phase: abdomen(phase, seed=1, gas_x=gas_x if phase == "AP" else 45.0)[0] for phase in PHASES}
    aligned = align(exam_from_images(images))
    for index, phase in enumerate(PHASES):
        assert aligned.alignment[phase].status == ("reference" if phase == "PVP" else "not needed")
        assert np.array_equal(aligned.hu[index], sitk.GetArrayFromImage(images[phase]).astype(np.float32))
    assert aligned.warnings == ()


def test_same_input_same_output():
    exam = exam_from_images({"PC": abdomen("PC")[0], "PVP": abdomen("PVP", (8.0, 0.0, 0.0))[0]})
    first, second = align(exam), align(exam)
    assert np.array_equal(first.hu, second.hu)
    assert first.alignment == second.alignment


def test_off_means_untouched_but_measured():
    images = {"AP": abdomen("AP")[0], "PVP": abdomen("PVP", (12.0, 0.0, 0.0))[0]}
    aligned = align(exam_from_images(images), enabled=False)
    assert aligned.alignment["AP"].status == "off"
    assert 0 < aligned.alignment["AP"].similarity_before < 1
    assert np.array_equal(aligned.hu[1], sitk.GetArrayFromImage(images["AP"]).astype(np.float32))


@pytest.mark.parametrize(("given", "reference"), [(("PC", "AP", "DP"), "AP"), (("PC", "DP"), "DP"), (("PC",), "PC"), (PHASES, "PVP")])
def test_reference_phase_and_absent_phases(given, reference):
    aligned = align(exam_from_images({phase: abdomen(phase)[0] for phase in given}), enabled=False)
    assert aligned.reference == reference
    assert aligned.present == tuple(phase in given for phase in PHASES)
    assert list(aligned.alignment) == list(given)
    for index, phase in enumerate(PHASES):
        assert (phase in given) or np.all(aligned.hu[index] == -1024)


def test_progress_runs_from_nothing_to_all():
    told = []
    exam = exam_from_images({"PC": abdomen("PC")[0], "PVP": abdomen("PVP")[0]})
    align(exam, progress=lambda text, fraction: told.append((text, fraction)))
    fractions = [fraction for _, fraction in told]
    assert fractions[0] == 0 and fractions[-1] == 1 and fractions == sorted(fractions)


def test_another_grid_is_resampled_and_said():
    motion = (9.0, 1.0, 0.0)
    moving, _ = abdomen("AP")
    thick = sitk.BinShrink(moving, [1, 1, 2])
    reference, liver = abdomen("PVP", motion)
    aligned = align(exam_from_images({"AP": thick, "PVP": reference}))
    assert aligned.hu.shape == (4, *SHAPE)
    assert any("AP" in warning and "resampled" in warning for warning in aligned.warnings)
    assert aligned.alignment["AP"].status == "aligned"
    half_a_thick_slice = SPACING[0]
    assert np.median(errors_mm(estimate_displacement(reference, thick), reference, breathing(motion), liver)) <= half_a_thick_slice


def test_a_truncated_phase_is_aligned_where_it_is_and_said():
    motion = (8.0, 1.0, 0.0)
    moving, _ = abdomen("AP")
    reference, liver = abdomen("PVP", motion)
    short = moving[:, :, 20:]
    aligned = align(exam_from_images({"AP": short, "PVP": reference}))
    assert np.all(aligned.hu[1, :16] == -1024)
    assert any("covers only" in warning for warning in aligned.warnings)
    liver[:23] = False
    assert np.median(errors_mm(estimate_displacement(reference, short), reference, breathing(motion), liver)) <= 2.0


def test_no_common_part_is_refused():
    far, _ = abdomen("AP")
    far.SetOrigin((0.0, 0.0, 900.0))
    with pytest.raises(InputError, match="AP and PVP"):
        align(exam_from_images({"AP": far, "PVP": abdomen("PVP")[0]}))


def test_oblique_grids_align_as_straight_ones():
    angle = np.deg2rad(8)
    tilt = (1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle), 0.0, np.sin(angle), np.cos(angle))
    motion = (10.0, 2.0, 0.0)
    moving, _ = abdomen("DP")
    reference, liver = abdomen("PVP", motion)
    for image in (moving, reference):
        image.SetDirection(tilt)
        image.SetOrigin((-50.0, 20.0, 300.0))
    z, y, x = breathing(motion)
    patient = (np.sin(angle) * y + np.cos(angle) * z, np.cos(angle) * y - np.sin(angle) * z, x)
    assert np.median(errors_mm(estimate_displacement(reference, moving), reference, patient, liver)) <= 2.0


def test_local_correlation_of_equal_and_of_unrelated_volumes():
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 20, 20, 20), dtype=np.float32)
    everywhere = np.ones(a.shape, bool)
    assert local_correlation(a, a, everywhere) == pytest.approx(1.0, abs=1e-4)
    assert local_correlation(a, b, everywhere) < 0.1


@pytest.mark.skipif(not REAL_CT.exists(), reason="real CT in ../shared/ct is not there")
def test_real_ct_with_a_known_motion():
    reference = sitk.DICOMOrient(sitk.ReadImage(str(REAL_CT)), "LPS")
    hu = sitk.GetArrayFromImage(reference)
    z = np.linspace(-1, 1, hu.shape[0])[:, None, None]
    y, x = np.linspace(-1, 1, hu.shape[1])[None, :, None], np.linspace(-1, 1, hu.shape[2])[None, None, :]
    share = np.exp(-((z - 0.3) ** 2) / 0.2 - (x / 0.7) ** 2 - (y / 0.7) ** 2)
    # what lies at p in the warped volume lies at p + truth in the volume as acquired
    truth = (9.0 * share, 2.0 * share, 0.0 * share)
    vectors = sitk.GetImageFromArray(np.stack(truth[::-1], axis=-1), isVector=True)
    vectors.CopyInformation(reference)
    warped = sitk.Resample(reference, reference, sitk.DisplacementFieldTransform(vectors), sitk.sitkLinear, -1024)
    enhanced = np.where((hu > 20) & (hu < 150), hu * 1.7, hu)
    moving = sitk.GetImageFromArray((enhanced + np.random.default_rng(2).normal(0, 12, hu.shape)).astype(np.float32))
    moving.CopyInformation(reference)
    where = (sitk.GetArrayFromImage(warped) > 0) & (share > 0.5)
    assert np.median(np.linalg.norm(np.stack(truth, axis=-1)[where], axis=-1)) > 5
    assert np.median(errors_mm(estimate_displacement(warped, moving), warped, truth, where)) <= 2.0
