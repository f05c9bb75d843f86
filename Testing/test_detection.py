"""Detection: suppression, linking across slices, and the detector from exam to Rois."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import LESION_BOX
from PediatricLiverDxLib.detection import LinkParameters, boxes_of, link, overlap, suppress
from PediatricLiverDxLib.vocabulary import InputError

SPACING = (1.0, 1.0, 2.0)


def ellipsoid_boxes(n_slices: int, centre: tuple[float, float, float], radius: tuple[float, float, float], score: float = 0.9) -> list:
    """Return for every slice the box of an ellipsoid's cut through it, (0 or 1, 5)."""
    slices = []
    for z in range(n_slices):
        height = (z + 0.5 - centre[2]) / radius[2]
        if abs(height) >= 1:
            slices.append(np.empty((0, 5)))
            continue
        rx, ry = (r * np.sqrt(1 - height**2) for r in radius[:2])
        slices.append(np.array([[centre[0] - rx, centre[1] - ry, centre[0] + rx, centre[1] + ry, score]]))
    return slices


def merged(*lists: list) -> list:
    return [np.concatenate(parts) for parts in zip(*lists, strict=True)]


def iou_3d(a, b) -> float:
    low, high = np.maximum(a[:3], b[:3]), np.minimum(a[3:], b[3:])
    shared = np.clip(high - low, 0, None).prod()
    return shared / (np.subtract(a[3:], a[:3]).prod() + np.subtract(b[3:], b[:3]).prod() - shared)


def test_overlap_of_known_boxes():
    assert overlap([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).tolist() == [[pytest.approx(1 / 3), 0.0]]


def test_suppress_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10, 0.5], [1, 0, 11, 10, 0.9], [50, 50, 60, 60, 0.3]])
    assert suppress(boxes, 0.5)[:, 4].tolist() == [0.9, 0.3]
    assert suppress(np.empty((0, 5)), 0.5).shape == (0, 5)


def test_predictions_become_corner_boxes():
    predictions = np.zeros((2, 5, 3), np.float32)
    predictions[0, :, 1] = (20, 30, 10, 4, 0.8)
    first, second = boxes_of(predictions, 0.25, 0.5)
    assert np.allclose(first, [[15, 28, 25, 32, 0.8]])
    assert second.shape == (0, 5)


def test_one_ellipsoid_becomes_its_box():
    (lesion,) = link(ellipsoid_boxes(40, (50, 60, 20), (15, 12, 8)), SPACING)
    assert iou_3d(lesion.box, (35, 48, 12, 65, 72, 28)) > 0.9
    assert lesion.score == pytest.approx(0.9)


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    boxes = ellipsoid_boxes(40, (50, 60, 20), (15, 12, 10))
    short = [box if z not in (19, 20) else box[:0] for z, box in enumerate(boxes)]
    assert len(link(short, SPACING)) == 1
    long = [box if not 16 <= z <= 22 else box[:0] for z, box in enumerate(boxes)]
    assert len(link(long, SPACING)) == 2


def test_two_lesions_side_by_side_stay_two():
    boxes = merged(ellipsoid_boxes(40, (30, 60, 20), (12, 12, 8)), ellipsoid_boxes(40, (58, 60, 22), (12, 12, 8), 0.7))
    assert [round(lesion.score, 1) for lesion in link(boxes, SPACING)] == [0.9, 0.7]


def test_a_jump_of_the_box_splits():
    boxes = ellipsoid_boxes(40, (30, 60, 10), (12, 12, 8))
    for z, box in enumerate(ellipsoid_boxes(40, (70, 60, 26), (12, 12, 8))):
        boxes[z] = np.concatenate([boxes[z], box])
    assert len(link(boxes, SPACING)) == 2


def test_nested_lesions_become_one():
    boxes = merged(ellipsoid_boxes(40, (50, 60, 20), (20, 20, 8)), ellipsoid_boxes(40, (50, 60, 20), (8, 8, 5), 0.6))
    (lesion,) = link(boxes, SPACING)
    assert lesion.box[3] - lesion.box[0] > 35


@pytest.mark.parametrize(("centre", "below", "lesions"), [
    ((55, 60), 0, 1),  # within the lesion's box, seen along z
    ((55, 60), 3, 2),  # the same, some slices below it
    ((30, 60), 0, 2),  # a neighbour that touches it, only half within
])
def test_the_pole_of_a_lesion_whose_section_jumps_is_no_lesion_of_its_own(centre, below, lesions):
    body, pole = (50, 60, 50), np.array([[centre[0] - 4, centre[1] - 4, centre[0] + 4, centre[1] + 4, 0.6]])
    boxes = [box if z >= 45 else box[:0] for z, box in enumerate(ellipsoid_boxes(60, body, (20, 20, 9)))]
    for z in range(41 - below, 45 - below):
        boxes[z] = pole
    found = link(boxes, SPACING, LinkParameters(gap=0, pole=0.8))
    assert len(found) == lesions
    assert found[0].box[2] == (41 if lesions == 1 else 45), "a pole as sure as this belongs to the lesion's height"
    assert len(link(boxes, SPACING, LinkParameters(gap=0))) == 2, "never, unless asked for"


def test_a_flash_in_one_thin_slice_is_no_lesion():
    boxes = [np.empty((0, 5)) for _ in range(40)]
    boxes[7] = np.array([[10, 10, 30, 30, 0.9]])
    assert link(boxes, SPACING) == []


def test_a_lesion_in_one_thick_slice_is_kept():
    boxes = [np.empty((0, 5)) for _ in range(10)]
    boxes[7] = np.array([[10, 10, 30, 30, 0.9]])
    assert len(link(boxes, (1.0, 1.0, 8.0))) == 1


def test_rounding_of_the_spacing_decides_nothing():
    """The panel's spacings come from a matrix, those of the command line from a file; 4.5 mm of 3 mm slices are two of them in both."""
    boxes = [np.empty((0, 5)) for _ in range(10)]
    boxes[7] = np.array([[10, 10, 30, 30, 0.9]])
    for further in (boxes[6], np.array([[10, 10, 30, 30, 0.3]])):
        boxes[6] = further
        exact, rounded_up = (link(boxes, (1.0, 1.0, depth), LinkParameters(score_depth=4.5)) for depth in (3.0, float(np.nextafter(3, 4))))
        assert exact == rounded_up


def test_weak_tails_do_not_lengthen_the_box():
    boxes = ellipsoid_boxes(40, (50, 60, 20), (15, 12, 5))
    for z in (25, 26, 27, 28):
        boxes[z] = np.array([[40, 50, 60, 70, 0.1]])
    (lesion,) = link(boxes, SPACING)
    assert lesion.box[5] == 25


def test_one_stray_wide_box_hardly_matters():
    boxes = ellipsoid_boxes(60, (50, 60, 30), (15, 15, 25))
    boxes[30] = np.array([[20, 45, 65, 75, 0.9]])
    (lesion,) = link(boxes, SPACING)
    assert lesion.box[0] > 30


def test_nothing_in_nothing_out():
    assert link([], SPACING) == []
    assert link([np.empty((0, 5))] * 5, SPACING) == []


def test_link_parameters_refuse_what_they_do_not_know():
    assert LinkParameters.of({"iou": 0.4}).iou == 0.4
    with pytest.raises(InputError, match="unknown"):
        LinkParameters.of({"iuo": 0.4})
    with pytest.raises(InputError, match="numbers"):
        LinkParameters.of({"iou": "high"})


def test_detector_finds_the_drawn_lesion_where_it_is(networks, tiny_aligned):
    fractions: list[float] = []
    (roi,) = networks.detector.find(tiny_aligned, fractions.append)
    assert roi.id == "L1" and roi.source == "detector"
    assert roi.score == pytest.approx(0.9, abs=0.01)
    assert iou_3d(np.array(roi.index_box(tiny_aligned.grid)), np.array(LESION_BOX)) > 0.7
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_detector_finds_nothing_where_nothing_is(networks, tiny_aligned):
    assert networks.detector.find(replace(tiny_aligned, hu=np.minimum(tiny_aligned.hu, 100))) == []


@pytest.mark.parametrize(("columns", "lesions"), [(slice(20, 70), 1), (slice(10, 86), 0)])
def test_what_is_as_wide_as_the_body_is_no_lesion(networks, tiny_aligned, columns, lesions):
    hu = np.minimum(tiny_aligned.hu, 100)
    hu[0, 8:16, 38:46, columns] = 240
    assert len(networks.detector.find(replace(tiny_aligned, hu=hu))) == lesions


def test_what_progress_raises_ends_the_search(networks, tiny_aligned):
    class Cancelled(Exception):
        pass

    def cancel(fraction: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        networks.detector.find(tiny_aligned, cancel)
