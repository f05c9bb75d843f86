"""The scanner model: noise, sharpness, slices, couch, and motion between phases, on analytic bodies whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("scipy")

from training.phantom import breathing, realism
from training.phantom.acquisition import acquire, couch, draw_protocol, pixel_positions, slice_positions
from training.phantom.protocol import mtf

REAL_CT = Path(__file__).parents[3] / "shared" / "ct"
LANDMARKS = breathing.Landmarks(dome_z=0.0, pelvis_z=-160.0, back_y=30.0, front_y=-80.0, half_width=110.0)
NODES = np.arange(-152.0, 25.0, 8.0), np.arange(-120.0, 121.0, 8.0), np.arange(-120.0, 121.0, 8.0)


def plain_protocol(**changes):
    """A protocol without artefacts, on a 128 x 128 field of 256 mm."""
    plain = {
        "matrix": 128,
        "pixel_mm": 2.0,
        "centre_mm": (0.0, 0.0),
        "noise_sd_hu": 12.0,
        "slice_thickness_mm": 3.0,
        "slice_spacing_mm": 3.0,
        "slice_profile": 0.0,
        "kernel_half_per_mm": 0.15,
        "aperture_mm": 0.6,
        "edge_enhancement": 0.0,
        "iterative_strength": 0.0,
        "offset_hu": 0.0,
        "gain": 1.0,
        "streak": 0.0,
        "beam_hardening": 0.0,
        "gas_streak_hu": 0.0,
        "motion_probability": 0.0,
        "circular_field": False,
        "couch": "none",
        "floor_hu": -1024,
    }
    return replace(draw_protocol(np.random.default_rng(0), 200.0, 160.0), **(plain | changes))


def ellipse(protocol, n_slices: int, hu: float = 60.0) -> np.ndarray:
    """A homogeneous body 200 x 160 mm in air."""
    y, x = pixel_positions(protocol)
    inside = (x[None] / 100.0) ** 2 + (y[:, None] / 80.0) ** 2 < 1.0
    return np.repeat(np.where(inside, hu, -1000.0).astype(np.float32)[None], n_slices, axis=0)


def centre(scan: np.ndarray) -> np.ndarray:
    return scan[:, 44:84, 44:84].astype(np.float64)


def test_same_seed_gives_the_same_protocol_and_slices():
    drawn = [draw_protocol(np.random.default_rng(5), 180.0, 140.0) for _ in range(2)]
    assert drawn[0] == drawn[1]
    protocol = plain_protocol()
    z = np.arange(4) * 3.0
    scans = [acquire(np.random.default_rng(9), ellipse(protocol, 4), z, protocol) for _ in range(2)]
    np.testing.assert_array_equal(*scans)
    assert not np.array_equal(scans[0], acquire(np.random.default_rng(10), ellipse(protocol, 4), z, protocol))


def test_drawn_protocols_cover_what_scanners_do():
    protocols = [draw_protocol(np.random.default_rng(seed), 230.0, 160.0) for seed in range(300)]
    thickness = np.array([p.slice_thickness_mm for p in protocols])
    noise = np.array([p.noise_sd_hu for p in protocols])
    assert thickness.min() <= 1.25 and thickness.max() == 5.0
    assert all(p.slice_spacing_mm <= p.slice_thickness_mm and p.slice_spacing_mm >= 1.0 for p in protocols)
    assert np.percentile(noise, 5) < 9.0 and 10.0 < np.median(noise) < 16.0 and np.percentile(noise, 95) > 20.0
    assert noise[thickness <= 1.5].mean() > noise[thickness >= 4.0].mean()
    assert {p.couch for p in protocols} == {"none", "curved", "flat", "cradle"}
    assert all(p.pixel_mm * p.matrix > 230.0 for p in protocols)


@pytest.mark.parametrize("target", [6.0, 12.0, 25.0])
def test_noise_hits_the_target(target):
    protocol = plain_protocol(noise_sd_hu=target)
    scan = acquire(np.random.default_rng(1), ellipse(protocol, 12), np.arange(12) * 3.0, protocol)
    assert centre(scan).std() == pytest.approx(target, rel=0.15)


def test_slices_are_integers_above_the_floor():
    protocol = plain_protocol(circular_field=True, floor_hu=-1000)
    scan = acquire(np.random.default_rng(1), ellipse(protocol, 3), np.arange(3) * 3.0, protocol)
    assert scan.dtype == np.int16 and scan.min() == -1000


def test_slice_average_preserves_the_mean_and_blurs_along_z():
    protocol = plain_protocol(noise_sd_hu=0.01, slice_thickness_mm=5.0, slice_spacing_mm=5.0)
    z = np.arange(0.0, 60.1, 1.0)
    world = ellipse(protocol, len(z))
    world[z > 30.2] += 100.0
    scan = centre(acquire(np.random.default_rng(2), world, z, protocol)).mean(axis=(1, 2))
    positions = slice_positions(protocol, z)
    assert scan[positions < 25] == pytest.approx(60.0, abs=2.5) and scan[positions > 35] == pytest.approx(160.0, abs=2.5)
    assert 90.0 < scan[positions == 30.0][0] < 130.0


def test_noise_of_sharp_kernels_peaks_at_middle_frequencies_and_iterative_noise_lower():
    sharp = plain_protocol(edge_enhancement=1.2, kernel_half_per_mm=0.16)
    z = np.arange(12) * 3.0
    frequencies = {}
    for name, protocol in {"sharp": sharp, "iterative": replace(sharp, iterative_strength=1.0)}.items():
        scan = centre(acquire(np.random.default_rng(3), ellipse(protocol, 12), z, protocol))
        power = (np.abs(np.fft.fft2(scan - scan.mean(axis=(1, 2), keepdims=True))) ** 2).mean(axis=0)
        f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(40, 2.0)] * 2))
        rings = np.array([power[(f > low) & (f <= low + 0.025)].mean() for low in np.arange(0.0, 0.25, 0.025)])
        frequencies[name] = np.sum(np.arange(10) * rings) / rings.sum()
        if name == "sharp":
            assert 2 <= np.argmax(rings) <= 7
            assert rings[0] < 0.35 * rings.max()
    assert frequencies["iterative"] < frequencies["sharp"] - 0.4


def test_lateral_streaks_make_noise_directional():
    ratio = {}
    for streak in (0.0, 3.0):
        protocol = plain_protocol(streak=streak)
        scan = centre(acquire(np.random.default_rng(4), ellipse(protocol, 12), np.arange(12) * 3.0, protocol))
        patches = list(scan - scan.mean(axis=(1, 2), keepdims=True))
        ratio[streak] = realism.radial_spectrum(patches, 2.0)[1]
    assert 1.0 < ratio[0.0] < ratio[3.0]


def test_overlapping_slices_share_noise():
    correlation = []
    for spacing in (3.0, 1.5):
        protocol = plain_protocol(slice_spacing_mm=spacing)
        scan = centre(acquire(np.random.default_rng(6), ellipse(protocol, 12), np.arange(12) * spacing, protocol))
        scan -= scan.mean(axis=(1, 2), keepdims=True)
        correlation.append(np.corrcoef(scan[1:].ravel(), scan[:-1].ravel())[0, 1])
    assert correlation[0] < 0.1 and 0.4 < correlation[1] < 0.6


def test_edge_enhancement_overshoots_and_a_softer_kernel_is_wider():
    assert mtf(plain_protocol(edge_enhancement=1.5), np.linspace(0, 0.3, 50)).max() > 1.1
    widths = []
    for half in (0.15, 0.45):
        protocol = plain_protocol(matrix=256, pixel_mm=1.0, kernel_half_per_mm=half, noise_sd_hu=0.01)
        row = acquire(np.random.default_rng(7), ellipse(protocol, 2), np.arange(2) * 3.0, protocol)[0, 128, :80].astype(float)
        widths.append(int(((row > -890) & (row < -50)).sum()))
    assert widths[0] > widths[1]


def test_the_couch_lies_behind_the_body():
    for kind in ("curved", "flat", "cradle"):
        protocol = plain_protocol(couch=kind, couch_top_mm=90.0, couch_radius_mm=300.0, mattress_mm=5.0)
        y, _ = pixel_positions(protocol)
        table = couch(protocol, *pixel_positions(protocol))
        middle = table[:, 63]
        assert (middle[y < 80.0] == -1000.0).all() and middle[y > 89.0].max() > -960.0
    assert (couch(plain_protocol(), *pixel_positions(plain_protocol())) == -1000.0).all()


def test_the_reference_phase_does_not_move():
    drawn = breathing.draw_breathing(np.random.default_rng(0), ("PC", "AP", "PVP", "DP"), 3.0)
    field = breathing.displacement(drawn["PVP"], *NODES, LANDMARKS)
    assert not field.vectors.any()
    assert breathing.displacement(drawn["PC"], *NODES, LANDMARKS).vectors.any()


def test_breathing_is_largest_under_the_diaphragm_and_fades_to_the_back_and_the_pelvis():
    moved = breathing.displacement(breathing.Breathing(liver_shift_mm=-12.0), *NODES, LANDMARKS).vectors[0]
    z, y, x = NODES
    middle = len(x) // 2

    def at(where_z: float, where_y: float) -> float:
        return moved[np.argmin(np.abs(z - where_z)), np.argmin(np.abs(y - where_y)), middle]

    assert at(0, -20) == pytest.approx(-12.0, abs=0.5)
    assert at(0, 72) == pytest.approx(0.0, abs=0.1)
    assert abs(at(-150, -20)) < 1.0
    assert abs(at(-80, -20)) < abs(at(-30, -20)) < 12.0


@pytest.mark.parametrize("seed", range(5))
def test_a_field_never_folds(seed):
    drawn = breathing.draw_breathing(np.random.default_rng(seed), ("PC", "AP", "PVP", "DP"), 12.0)
    for phase in ("PC", "AP", "DP"):
        vectors = breathing.displacement(drawn[phase], *NODES, LANDMARKS).vectors
        gradient = np.stack([np.stack(np.gradient(v, 8.0)) for v in vectors])
        jacobian = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3))
        assert jacobian.min() > 0.3


def test_warp_of_a_known_shift():
    z, y, x = np.arange(20) * 2.0, np.arange(48) * 1.5, np.arange(40) * 1.5
    hu = np.random.default_rng(0).normal(size=(20, 48, 40)).astype(np.float32)
    nodes = np.arange(-8.0, 57.0, 8.0), np.arange(-8.0, 89.0, 8.0), np.arange(-8.0, 73.0, 8.0)
    vectors = np.zeros((3, *[len(n) for n in nodes]), np.float32)
    vectors[0], vectors[1], vectors[2] = 4.0, -3.0, 4.5
    moved = breathing.warp(hu, z, y, x, breathing.Displacement(vectors, *nodes))
    np.testing.assert_allclose(moved[4:16, 8:40, 8:36], hu[2:14, 10:42, 5:33], atol=1e-4)


def test_resampling_a_warped_phase_with_the_field_gives_the_reference_back():
    z, y, x = np.arange(-100.0, 20.0, 4.0), np.arange(-100.0, 100.0, 4.0), np.arange(-100.0, 100.0, 4.0)
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    reference = (np.sin(zz / 20) + np.cos(yy / 25) * np.sin(xx / 30)).astype(np.float32)
    drawn = breathing.draw_breathing(np.random.default_rng(8), ("AP",), 8.0)["AP"]
    field = breathing.displacement(drawn, *NODES, LANDMARKS)
    phase = sitk.GetImageFromArray(breathing.warp(reference, z, y, x, field))
    phase.SetSpacing((4.0, 4.0, 4.0))
    phase.SetOrigin((-100.0, -100.0, -100.0))
    vectors = sitk.GetImageFromArray(np.moveaxis(field.vectors[::-1], 0, -1).astype(np.float64), isVector=True)
    vectors.SetSpacing((8.0, 8.0, 8.0))
    vectors.SetOrigin((-120.0, -120.0, -152.0))
    back = sitk.GetArrayFromImage(sitk.Resample(phase, phase, sitk.DisplacementFieldTransform(vectors), sitk.sitkLinear))
    inner = (slice(6, -6),) * 3
    assert np.abs(back - reference)[inner].max() < 0.05 < np.abs(sitk.GetArrayFromImage(phase) - reference)[inner].max()


def test_realism_measures_the_noise_and_sharpness_that_were_asked_for():
    protocol = plain_protocol(matrix=256, pixel_mm=1.0, kernel_half_per_mm=0.35, noise_sd_hu=10.0)
    scan = acquire(np.random.default_rng(11), ellipse(protocol, 5), np.arange(5) * 3.0, protocol)
    image = sitk.GetImageFromArray(scan)
    image.SetSpacing((1.0, 1.0, 3.0))
    measured = realism.measure(image, "ellipse")
    assert measured.noise_sd_hu == pytest.approx(10.0, rel=0.2)
    assert measured.liver_hu == pytest.approx(60.0, abs=2.0)
    assert 0.15 < measured.peak_frequency < 0.3
    # A Gaussian of half value at 0.35 per mm has sigma 0.54 mm and a 10-90 % distance of 1.4 mm; aperture and stairs add to it.
    assert 1.2 < measured.skin_rise_mm < 2.0
    assert np.isnan(measured.fat_rise_mm)


def test_realism_draws_its_figure(tmp_path):
    protocol = plain_protocol()
    scans = []
    for seed in range(3):
        image = sitk.GetImageFromArray(acquire(np.random.default_rng(seed), ellipse(protocol, 3), np.arange(3) * 3.0, protocol))
        image.SetSpacing((2.0, 2.0, 3.0))
        scans.append(realism.measure(image, f"ellipse {seed}"))
    realism.compare(scans[:1], scans[1:], tmp_path / "realism.png")
    assert (tmp_path / "realism.png").stat().st_size > 10_000


@pytest.mark.skipif(not (REAL_CT / "dcmqi-liver").is_dir(), reason="no real CT beside the repository")
def test_realism_measures_a_real_scan():
    ((name, image),) = realism.real_scans(REAL_CT / "dcmqi-liver")
    measured = realism.measure(image, name)
    assert 20.0 < measured.noise_sd_hu < 45.0
    assert 0.2 < measured.mean_frequency < 0.35 and 1.5 < measured.skin_rise_mm < 2.3
