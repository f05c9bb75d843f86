"""Lesions from LabelMe lie where they were drawn, reach as far as their slices say, and train like those of a mask."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib.composites import composite_slices
from PediatricLiverDxLib.png import grey_png
from PediatricLiverDxLib.vocabulary import PHASES, InputError

from training.cache import build_cache
from training.cohort import ExamRecord, read_exams_csv, write_exams_csv
from training.configuration import CacheSettings
from training.truth import Lesion, load_exam, read_lesions

#: Matrix and slices of the volumes here (x, y, z).
SIZE = (48, 40, 24)


def rectangle(x0: float, y0: float, x1: float, y1: float, group: int | None = None) -> dict:
    """A rectangle as LabelMe 5 writes it: two corners, in the order in which they were clicked."""
    return shape("rectangle", [[x1, y0], [x0, y1]], group)


def shape(kind: str, points: list, group: int | None = None) -> dict:
    return {"label": "tumor", "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {}, "mask": None}


def write_labelme(folder: Path, name: str, *shapes: dict, size: Sequence[int] = SIZE, **changes) -> None:
    """Write NAME.json as LabelMe 5 does, with its picture inside and beside it."""
    folder.mkdir(exist_ok=True)
    picture = grey_png(np.zeros((size[1], size[0]), np.uint8))
    (folder / f"{name}.png").write_bytes(picture)
    content = {
        "version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": f"{name}.png",
        "imageData": base64.b64encode(picture).decode(), "imageHeight": size[1], "imageWidth": size[0],
    } | changes
    (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


@pytest.fixture
def record(tmp_path: Path) -> ExamRecord:
    """An exam of AP and PVP, 60 HU with a bright block at columns 10-19, rows 12-25, slices 6-14; its volumes run from above downwards."""
    hu = np.full(SIZE[::-1], -1000, np.int16)
    hu[:, 2:-2, 2:-2] = 60
    hu[6:15, 12:26, 10:20] = 160
    for phase, brighter in (("AP", 10), ("PVP", 0)):
        image = sitk.GetImageFromArray(np.where(hu > 0, hu + brighter, hu).astype(np.int16))
        image.SetSpacing((2.0, 2.0, 3.0))
        # as files often are: not from the lowest slice upwards, and not from right to left
        sitk.WriteImage(sitk.DICOMOrient(image, "RPI"), str(tmp_path / f"{phase}.nii.gz"))
    return ExamRecord(
        "e1", "p1", "retrospective", "HB", "", 2.0, "F", {phase: tmp_path / f"{phase}.nii.gz" for phase in ("AP", "PVP")},
        tmp_path / "boxes",
    )


def lesions_of(record: ExamRecord) -> tuple[Lesion, ...]:
    return load_exam(record, align_phases=False)[1]


def test_a_box_lies_on_what_it_was_drawn_around(record: ExamRecord):
    for z in (7, 10, 13):
        write_labelme(record.lesions, f"PVP_{z:03d}", rectangle(10, 12, 20, 26))
    aligned, (lesion,) = load_exam(record, align_phases=False)
    assert lesion.box == (10, 12, 6, 20, 26, 15)
    x0, y0, z0, x1, y1, z1 = (int(side) for side in lesion.box)
    bright = np.zeros(SIZE[::-1], bool)
    bright[z0:z1, y0:y1, x0:x1] = True
    assert np.array_equal(aligned.hu[PHASES.index("PVP")] > 110, bright)


@pytest.mark.parametrize("slices", [(2, 3, 4), (1, 3, 5), (4, 7, 10), (2, 6, 10), (2, 7, 12), (7, 11, 15), (3, 9, 15)])
def test_three_evenly_spaced_slices_are_the_centres_of_thirds(record: ExamRecord, slices: tuple[int, ...]):
    for z in slices:
        write_labelme(record.lesions, f"PVP_{z}", rectangle(10, 12, 20, 26))
    (lesion,) = lesions_of(record)
    assert composite_slices(lesion.box[2], lesion.box[5]) == slices
    spacing = slices[1] - slices[0]
    assert abs((lesion.box[5] - lesion.box[2]) - 3 * spacing) <= 1


@pytest.mark.parametrize("slices", [(2, 6, 11), (3, 4, 12), (9, 16, 17)])
def test_of_three_slices_at_uneven_distances_the_outer_ones_come_back(record: ExamRecord, slices: tuple[int, ...]):
    for z in slices:
        write_labelme(record.lesions, f"PVP_{z}", rectangle(10, 12, 20, 26))
    (lesion,) = lesions_of(record)
    assert composite_slices(lesion.box[2], lesion.box[5])[::2] == slices[::2]


@pytest.mark.parametrize(("slices", "reach"), [((1, 8, 15), (0, 19)), ((8, 15, 22), (5, 24))])
def test_a_lesion_ends_where_the_volume_does(record: ExamRecord, slices: tuple[int, ...], reach: tuple[int, int]):
    for z in slices:
        write_labelme(record.lesions, f"PVP_{z}", rectangle(10, 12, 20, 26))
    (lesion,) = lesions_of(record)
    assert (lesion.box[2], lesion.box[5]) == reach


def test_four_slices_reach_from_the_lowest_to_the_highest_and_what_lies_between_is_interpolated(record: ExamRecord):
    for z, grown in ((5, 0), (6, 1), (8, 3), (12, 7)):
        write_labelme(record.lesions, f"PVP_{z}", rectangle(20 - grown, 20, 22, 24 + grown))
    (lesion,) = lesions_of(record)
    assert lesion.box == (13, 20, 5, 22, 31, 13)
    for z in range(5, 13):
        np.testing.assert_allclose(lesion.slice_box(z), (25 - z, 20, 22, 19 + z))
    assert lesion.marked.all()


def test_a_group_id_is_a_lesion_and_a_polygon_its_box(record: ExamRecord):
    for z in (5, 9):
        polygon = shape("polygon", [[2.5, 8], [6, 3.25], [9, 7], [5, 10.5]], 7)
        write_labelme(record.lesions, f"PVP_{z}", polygon, rectangle(20, 20, 30, 30, 2), rectangle(28, 22, 34, 29, 2))
    larger, smaller = lesions_of(record)
    assert (larger.label, larger.box) == (2, (20, 20, 5, 34, 30, 10))
    assert (smaller.label, smaller.box) == (7, (2.5, 3.25, 5, 9, 10.5, 10))


def test_case_of_names_other_files_and_what_the_pictures_are_called_do_not_matter(record: ExamRecord):
    write_labelme(record.lesions, "pvp_0004", rectangle(1, 2, 3, 4), imagePath="..\\..\\elsewhere\\secret.jpg", imageData=None)
    (record.lesions / "notes.txt").write_text("drawn twice")
    (record.lesions / "._PVP_5.json").write_bytes(b"\x00\x05")
    assert [lesion.box for lesion in lesions_of(record)] == [(1, 2, 4, 3, 4, 5)]


def test_the_reference_phase_counts_and_shapes_of_others_alone_are_refused(record: ExamRecord):
    write_labelme(record.lesions, "AP_4", rectangle(1, 2, 3, 4))
    with pytest.raises(InputError, match="in AP but not in PVP"):
        lesions_of(record)
    write_labelme(record.lesions, "PVP_5", rectangle(11, 12, 13, 14))
    assert [lesion.box for lesion in lesions_of(record)] == [(11, 12, 5, 13, 14, 6)]
    arterial = replace(record, phases={"AP": record.phases["AP"]})
    assert [lesion.box for lesion in lesions_of(arterial)] == [(1, 2, 4, 3, 4, 5)]


def test_files_without_a_shape_are_an_exam_without_a_lesion(record: ExamRecord):
    write_labelme(record.lesions, "PVP_5")
    assert lesions_of(record) == ()


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "shapes", "changes", "sentence"),
    [
        ("PVP_4", [shape("rectangle", [[3, 4]])], {}, "rectangle of 1 points, at least 2"),
        ("PVP_4", [shape("polygon", [[3, 4], [5, 6]])], {}, "polygon of 2 points, at least 3"),
        ("PVP_4", [shape("rectangle", [])], {}, "rectangle of 0 points"),
        ("PVP_4", [shape("circle", [[3, 4], [5, 6]])], {}, "'circle'"),
        ("PVP_4", [rectangle(3, 4, 49, 9)], {}, "outside its picture of 48 x 40"),
        ("PVP_4", [rectangle(-1, 4, 9, 9)], {}, "outside"),
        ("PVP_4", [rectangle(3, NAN, 9, 9)], {}, "outside"),
        ("PVP_4", [rectangle(3, 4, 3, 9)], {}, "without any area"),
        ("PVP_4", [shape("rectangle", [[1, 2, 3], [4, 5, 6]])], {}, "does not write"),
        ("PVP_4", [shape("rectangle", [["a", 2], [4, 5]])], {}, "does not write"),
        ("PVP_4", [{"label": "tumor"}], {}, "does not write"),
        ("PVP_4", ["tumor"], {}, "does not write"),
        ("PVP_4", [rectangle(1, 2, 3, 4), rectangle(5, 6, 7, 8)], {}, "several lesions without group id"),
        ("PVP_4", [rectangle(1, 2, 3, 4), rectangle(5, 6, 7, 8, 1)], {}, "others none"),
        ("PVP_4", [rectangle(1, 2, 3, 4, "left")], {}, "'left'"),
        ("PVP_4", [rectangle(1, 2, 3, 4)], {"imageWidth": 512}, "512 x 40 pixels, but the volume's slices have 48 x 40"),
        ("PVP_4", [], {"shapes": None}, "not a whole LabelMe file"),
        ("PVP_24", [rectangle(1, 2, 3, 4)], {}, "slice 24, but PVP has the slices 0"),
        ("PVP4", [rectangle(1, 2, 3, 4)], {}, "name it like PVP_12.json"),
        ("HAP_4", [rectangle(1, 2, 3, 4)], {}, "name it like PVP_12.json"),
        ("PVP_-4", [rectangle(1, 2, 3, 4)], {}, "name it like PVP_12.json"),
    ],
)
def test_what_is_not_as_expected_is_refused_in_a_sentence(record: ExamRecord, name: str, shapes: list, changes: dict, sentence: str):
    write_labelme(record.lesions, name, *shapes, **changes)
    with pytest.raises(InputError, match=sentence) as refused:
        lesions_of(record)
    assert str(refused.value).startswith("exam e1: ") and "\n" not in str(refused.value)
    assert str(record.lesions.parent) not in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"{}", b'{"shapes": []}', b"\xff\xfe\x00", b'"shapes"'])
def test_a_file_that_is_not_labelmes_is_refused(record: ExamRecord, text: bytes):
    record.lesions.mkdir()
    (record.lesions / "PVP_4.json").write_bytes(text)
    with pytest.raises(InputError, match=r"exam e1: PVP_4\.json is not a whole LabelMe file"):
        lesions_of(record)


def test_a_slice_given_twice_and_a_folder_without_labelme_files_are_refused(record: ExamRecord):
    record.lesions.mkdir()
    with pytest.raises(InputError, match="boxes holds no LabelMe file"):
        lesions_of(record)
    for name in ("PVP_4", "pvp_04"):
        write_labelme(record.lesions, name, rectangle(1, 2, 3, 4))
    with pytest.raises(InputError, match="same phase and slice"):
        lesions_of(record)


def test_an_exam_marked_in_labelme_is_cached_like_one_with_a_mask(exams_csv: Path, tmp_path: Path):
    """Three slices of the mask's lesion, as a radiologist picks them: the same composites, and no slice of the lesion counts as empty."""
    masked = read_exams_csv(exams_csv)[2]
    aligned, (lesion,) = load_exam(masked, align_phases=False)
    picked = composite_slices(lesion.box[2], lesion.box[5])
    for z in picked:
        write_labelme(tmp_path / "boxes", f"PVP_{z}", rectangle(*(float(side) for side in lesion.slice_box(z))), size=aligned.grid.size_xyz)
    write_exams_csv(tmp_path / "exams.csv", [replace(masked, lesions=tmp_path / "boxes")])
    (record,) = read_exams_csv(tmp_path / "exams.csv")
    (drawn,) = read_lesions(record, aligned.grid)
    assert composite_slices(drawn.box[2], drawn.box[5]) == picked
    settings = CacheSettings(align_share=0.0, positive_slices=20, negative_slices=20)
    (exam,), (other,) = (build_cache([one], tmp_path / name, settings) for name, one in (("drawn", record), ("mask", masked)))
    assert exam.composites.shape == other.composites.shape == (1, 3, 4, 128, 128)
    shown, expected = (np.asarray(one.composites, float) / 255 for one in (exam, other))
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.9
    inside = range(int(drawn.box[2]), int(drawn.box[5]))
    assert set(picked) < set(inside)
    assert [one.z for one in exam.slices] == list(range(aligned.grid.size_xyz[2]))
    for one in exam.slices:
        assert one.empty == (one.z not in inside) and len(one.boxes) == (one.z in inside)
