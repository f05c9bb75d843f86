"""Composites and detector inputs: what the networks see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import LESION_BOX
from PediatricLiverDxLib.composites import (
    body_mask,
    composite_side,
    composite_slices,
    composites,
    crop_plane,
    detector_images,
    detector_transform,
    inside_box,
    resampling_matrix,
    window,
)
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import PHASES, InputError
from PediatricLiverDxLib.volumes import Grid


def test_window_ends_and_middle():
    assert window(np.array([-85.0, 40.0, 165.0]), "PC").tolist() == [0.0, 0.5, 1.0]
    assert window(np.array([-100.0, 45.0, 190.0]), "PVP").tolist() == [0.0, 0.5, 1.0]
    assert window(np.array([-1024.0, 3000.0]), "AP").tolist() == [0.0, 1.0]


def test_identity_resampling_changes_nothing():
    assert np.array_equal(resampling_matrix(9, 0, 1, 9), np.eye(9, dtype=np.float32))


@pytest.mark.parametrize("step", [0.37, 1.0, 1.9, 6.3])
def test_resampling_keeps_a_constant_and_a_ramp(step):
    matrix = resampling_matrix(200, 60, step, 12)
    centres = 60 + (np.arange(12) + 0.5) * step
    assert np.allclose(matrix.sum(1), 1, atol=1e-5)
    assert np.allclose(matrix @ (np.arange(200) + 0.5), centres, atol=0.1)


def test_shrinking_averages_so_that_fine_patterns_vanish():
    stripes = np.tile([0.0, 1.0], 50)
    assert np.ptp(resampling_matrix(100, 20, 6, 10) @ stripes) < 0.02


def test_outside_the_source_is_zero():
    assert resampling_matrix(10, -5, 1, 20).sum(1).tolist() == [0.0] * 5 + [1.0] * 10 + [0.0] * 5


def test_crop_masks_everything_outside_the_box():
    plane = np.full((60, 60), 45.0, np.float32)
    crop = crop_plane(plane, (1.0, 1.0), (20, 10, 40, 50), 128, "PVP")
    rows, columns = np.flatnonzero(crop.any(1)), np.flatnonzero(crop.any(0))
    # 40 rows and 20 columns are the box, which with its margin is 44 / 160 of what would fill a composite
    side = 44 * (160 / 44) ** 0.25
    assert len(rows) == pytest.approx(128 * 40 / side, abs=1)
    assert len(columns) == pytest.approx(128 * 20 / side, abs=1)
    assert np.allclose(crop[np.ix_(rows, columns)], 0.5, atol=1e-5)


@pytest.mark.parametrize("box", [(20, 10, 40, 50), (3.5, 7.25, 9.75, 12), (30, 30, 30.4, 30.5)])
def test_inside_box_is_where_the_crop_is_not_masked(box):
    crop = crop_plane(np.full((60, 60), 45.0, np.float32), (0.7, 1.1), box, 128, "PVP")
    assert np.array_equal(crop > 0, inside_box(box, (0.7, 1.1), 128))


def test_a_larger_lesion_fills_more_of_its_composite():
    shares = [side / composite_side(side) for side in (4, 10, 20, 40, 80, 160, 250)]
    assert shares[:5] == sorted(set(shares[:5]))
    assert shares[0] > 0.3
    assert shares[-2:] == pytest.approx([1 / 1.1] * 2)


def test_crop_is_square_in_mm_whatever_the_spacing():
    y, x = np.mgrid[0:80, 0:40] + 0.5
    # a disc of radius 15 mm with 0.8 mm rows and 1.6 mm columns
    disc = np.where(np.hypot((x - 20) * 1.6, (y - 40) * 0.8) < 15, 190.0, -100.0).astype(np.float32)
    box = (20 - 15 / 1.6, 40 - 15 / 0.8, 20 + 15 / 1.6, 40 + 15 / 0.8)
    crop = crop_plane(disc, (1.6, 0.8), box, 128, "PVP") > 0.5
    assert crop.any(0).sum() == pytest.approx(crop.any(1).sum(), abs=5)


def test_box_at_the_corner_pads_with_zeros():
    plane = np.full((40, 40), 190.0, np.float32)
    crop = crop_plane(plane, (1, 1), (-5, -5, 15, 15), 64, "PVP")
    assert crop[:8, :8].max() == 0
    assert crop[32, 32] == pytest.approx(1)


@pytest.mark.parametrize(
    ("z", "expected"), [((3, 9), (4, 6, 8)), ((0, 3), (0, 1, 2)), ((5, 6), (5, 5, 5)), ((5.2, 5.9), (5, 5, 5)), ((0, 30), (5, 15, 25))]
)
def test_slices_are_the_centres_of_the_thirds(z, expected):
    assert composite_slices(*z) == expected


def test_composites_show_the_lesion_in_every_phase(tiny_aligned):
    roi = Roi.from_index_box(tiny_aligned.grid, LESION_BOX)
    images = composites(tiny_aligned, roi, 64)
    assert images.shape == (3, 4, 64, 64)
    assert images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    # HU at the lesion's centre: 240 before contrast (above the window), 130 in PVP
    assert images[1, 0, 32, 32] == pytest.approx(1)
    assert images[1, PHASES.index("PVP"), 28:36, 28:36].mean() == pytest.approx((130 + 100) / 290, abs=0.05)


def test_absent_phase_is_zeros(tiny_aligned):
    roi = Roi.from_index_box(tiny_aligned.grid, LESION_BOX)
    lacking = replace(tiny_aligned, present=(True, False, True, True))
    assert not composites(lacking, roi)[:, 1].any()
    inputs = detector_images(lacking, detector_transform(lacking, 64), range(24))
    assert not inputs[:, 1].any()
    assert inputs[:, 0].any()


def test_roi_smaller_than_a_voxel_gives_finite_composites(tiny_aligned):
    images = composites(tiny_aligned, Roi.from_index_box(tiny_aligned.grid, (30.2, 33.1, 10.2, 30.6, 33.4, 10.5)))
    assert np.isfinite(images).all()
    assert images.any()


def test_roi_at_the_volume_end_reads_the_last_slice(tiny_aligned):
    n = tiny_aligned.grid.size_xyz[2]
    images = composites(tiny_aligned, Roi.from_index_box(tiny_aligned.grid, (24, 30, n - 1, 40, 46, n)))
    assert images.any()


def test_roi_outside_is_refused(tiny_aligned):
    with pytest.raises(InputError, match="outside the volume"):
        composites(tiny_aligned, Roi((900.0, 0.0, 0.0), (20.0, 20.0, 20.0)))


def test_detector_inputs_show_the_whole_body_and_map_back(tiny_aligned):
    transform = detector_transform(tiny_aligned, 128)
    inputs = detector_images(tiny_aligned, transform, range(24))
    assert inputs.shape == (24, 4, 128, 128)
    # the body spans columns 6 to 90: a margin of 2 % on either side
    x0, _, x1, _ = transform.to_index(np.array([0, 0, 128, 128]))
    assert x0 == pytest.approx(6 - 0.02 * 84, abs=2)
    assert x1 == pytest.approx(90 + 0.02 * 84, abs=2)
    bright = inputs[12, 0] > 0.85
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    box = transform.to_index(np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]))
    assert np.allclose(box, (LESION_BOX[0], LESION_BOX[1], LESION_BOX[3], LESION_BOX[4]), atol=1)
    assert np.allclose(transform.to_detector(transform.to_index(np.array([3.0, 4.0, 50.0, 60.0]))), [3, 4, 50, 60])


def test_what_lies_beside_the_body_is_left_out_up_to_a_multiple_of_pixels(tiny_aligned):
    square, cut = detector_transform(tiny_aligned, 128), detector_transform(tiny_aligned, 128, 8)
    # the body is 84 columns wide and 68 rows high
    assert (square.width, square.height, cut.width, cut.height) == (128, 128, 128, 104)
    assert cut.step_xy == square.step_xy and cut.start_xy[0] == square.start_xy[0]
    whole, part = (detector_images(tiny_aligned, one, range(24)) for one in (square, cut))
    np.testing.assert_allclose(part, whole[:, :, 12:116], atol=1e-5)


def test_body_leaves_a_couch_out():
    hu = np.full((10, 120, 100), -1000.0, np.float32)
    hu[:, 20:80, 20:80] = 50
    hu[:, 110:112, :] = 100
    mask, stride = body_mask(hu, (2.0, 2.0, 5.0))
    rows = np.flatnonzero(mask.any((0, 2))) * stride[1]
    assert rows.min() >= 16 and rows.max() <= 80


def test_all_air_counts_as_body():
    assert body_mask(np.full((4, 30, 30), -1000.0, np.float32), (2.0, 2.0, 5.0))[0].all()


def test_single_slice_volume(tiny_aligned):
    grid = Grid((96, 80, 1), *(getattr(tiny_aligned.grid, name) for name in ("spacing_xyz", "origin_lps", "direction")))
    one = replace(tiny_aligned, hu=tiny_aligned.hu[:, 12:13], grid=grid)
    assert detector_images(one, detector_transform(one, 64), range(1)).shape == (1, 4, 64, 64)
    assert composites(one, Roi.from_index_box(grid, (24, 30, 0, 40, 46, 1)), 64).any()
