"""Rois: boxes on a grid, clamping, and Slicer's ROI markups."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PediatricLiverDxLib.rois import Roi, read_rois, sorted_by_size, write_roi
from PediatricLiverDxLib.vocabulary import InputError
from PediatricLiverDxLib.volumes import Grid

STRAIGHT = Grid((100, 80, 40), (1.0, 1.5, 3.0), (-50.0, -60.0, 10.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
_C, _S = np.cos(0.2), np.sin(0.2)
OBLIQUE = Grid((100, 80, 40), (1.0, 1.5, 3.0), (-50.0, -60.0, 10.0), (1, 0, 0, 0, _C, -_S, 0, _S, _C))


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE])
def test_index_box_there_and_back(grid):
    box = (10.0, 12.5, 3.0, 30.0, 40.0, 9.0)
    roi = Roi.from_index_box(grid, box)
    assert np.allclose(roi.index_box(grid), box, atol=1e-6)
    assert np.allclose(roi.size_mm, (20, 27.5 * 1.5, 18))
    assert np.allclose(np.diag(roi.axes_ras), np.abs(np.diag(roi.axes_ras)))


def test_box_in_ras_is_where_slicer_shows_it():
    # voxel 0, 0, 0 has its centre at LPS -50, -60, 10, so RAS 50, 60, 10
    roi = Roi.from_index_box(STRAIGHT, (0, 0, 0, 1, 1, 1))
    assert roi.center_ras_mm == (50.0, 60.0, 10.0)
    assert roi.axes_ras == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def test_turned_roi_counts_as_its_enclosing_box():
    half = np.sqrt(0.5)
    turned = Roi((0.0, 0.0, 40.0), (20.0, 20.0, 12.0), ((half, half, 0.0), (-half, half, 0.0), (0.0, 0.0, 1.0)))
    box = turned.index_box(STRAIGHT)
    assert box[3] - box[0] == pytest.approx(20 * np.sqrt(2))


def test_clamp_cuts_and_says_so():
    roi = Roi.from_index_box(STRAIGHT, (-10, 10, 5, 10, 30, 15), id="L2", source="radiologist")
    clamped, note = roi.clamp_to(STRAIGHT)
    assert np.allclose(clamped.index_box(STRAIGHT), (0, 10, 5, 10, 30, 15), atol=1e-6)
    assert clamped.id == "L2" and clamped.source == "radiologist"
    assert "L2" in note and "50%" in note


def test_inside_and_hairline_overlap_are_left_in_peace():
    inside = Roi.from_index_box(STRAIGHT, (1, 1, 1, 5, 5, 5))
    assert inside.clamp_to(STRAIGHT) == (inside, None)
    assert Roi.from_index_box(STRAIGHT, (-0.3, 1, 1, 5, 5, 5)).clamp_to(STRAIGHT)[1] is None


@pytest.mark.parametrize("size", [(0.0, 5.0, 5.0), (-1.0, 5.0, 5.0), (float("nan"), 5.0, 5.0)])
def test_boxes_without_size_are_refused(size):
    with pytest.raises(InputError):
        Roi((0.0, 0.0, 0.0), size)


def test_sorted_by_size_renames():
    small, large = Roi((0, 0, 0), (5, 5, 5), id="a"), Roi((0, 0, 0), (9, 9, 9), id="b")
    assert [(roi.id, roi.size_mm) for roi in sorted_by_size([small, large])] == [("L1", (9, 9, 9)), ("L2", (5, 5, 5))]


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE])
def test_markup_there_and_back(tmp_path, grid):
    roi = Roi.from_index_box(grid, (10, 12, 3, 30, 40, 9), id="L1")
    write_roi(roi, tmp_path / "roi_L1.mrk.json")
    (back,) = read_rois(tmp_path / "roi_L1.mrk.json")
    assert np.allclose(back.center_ras_mm, roi.center_ras_mm)
    assert np.allclose(back.size_mm, roi.size_mm)
    assert np.allclose(back.axes_ras, roi.axes_ras)
    assert back.source == "radiologist" and back.id == "1"


def test_ras_markup_and_several_rois(tmp_path):
    markup = {"type": "ROI", "coordinateSystem": "RAS", "center": [1, 2, 3], "size": [4, 5, 6]}
    other = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": []}
    turned = {**markup, "coordinateSystem": "LPS", "orientation": [0, 1, 0, -1, 0, 0, 0, 0, 1]}
    path = tmp_path / "all.mrk.json"
    path.write_text(json.dumps({"markups": [markup, other, turned]}))
    first, second = read_rois(path)
    assert first.center_ras_mm == (1, 2, 3) and first.size_mm == (4, 5, 6)
    # the turned box's first axis lies along A, so its sides come in the order R, A, S
    assert second.center_ras_mm == (-1, -2, 3) and second.size_mm == (5, 4, 6)


def test_slicer_writes_what_we_read_and_reads_what_we_write(tmp_path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    node, storage = slicer.vtkMRMLMarkupsROINode(), slicer.vtkMRMLMarkupsROIJsonStorageNode()
    node.SetCenter(12.0, -30.0, 45.0)
    node.SetSize(20.0, 30.0, 40.0)
    path = tmp_path / "slicer.mrk.json"
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    (roi,) = read_rois(path)
    assert np.allclose(roi.center_ras_mm, (12, -30, 45))
    assert np.allclose(roi.size_mm, (20, 30, 40))
    assert np.allclose(roi.axes_ras, np.eye(3))

    ours = replace(Roi.from_index_box(OBLIQUE, (10, 12, 3, 30, 40, 9)), id="L3")
    write_roi(ours, tmp_path / "ours.mrk.json")
    back = slicer.vtkMRMLMarkupsROINode()
    storage.SetFileName(str(tmp_path / "ours.mrk.json"))
    assert storage.ReadData(back)
    center, size = back.GetCenter(), back.GetSize()
    matrix = back.GetObjectToWorldMatrix()
    axes = np.array([[matrix.GetElement(row, column) for row in range(3)] for column in range(3)])
    assert np.allclose(center, ours.center_ras_mm, atol=1e-4)
    assert np.allclose(size, ours.size_mm, atol=1e-4)
    assert np.allclose(axes, ours.axes_ras, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not a Slicer markups file"),
        ("[1, 2]", "not a Slicer markups file"),
        ('{"markups": [{"type": "Fiducial"}]}', "no ROI"),
        ('{"markups": [{"type": "ROI", "center": [1, 2]}]}', "no complete box"),
        ('{"markups": [{"type": "ROI", "center": [1, 2, 3], "size": [0, 1, 1]}]}', "above 0"),
        ('{"markups": [{"type": "ROI", "coordinateSystem": "IJK", "center": [1, 2, 3], "size": [1, 1, 1]}]}', "LPS or RAS"),
        ('{"markups": [{"type": "ROI", "coordinateUnits": "m", "center": [1, 2, 3], "size": [1, 1, 1]}]}', "expected mm"),
        ('{"markups": [{"type": "ROI", "coordinateUnits": [], "center": [1, 2, 3], "size": [1, 1, 1]}]}', "in no unit, expected mm"),
        ('{"markups": [{"type": "ROI", "coordinateUnits": null, "center": [1, 2, 3], "size": [1, 1, 1]}]}', "expected mm"),
        ('{"markups": [{"type": "ROI", "insideOut": true, "center": [1, 2, 3], "size": [1, 1, 1]}]}', "inside out"),
        ('{"markups": [{"type": "ROI", "center": {"x": 1}, "size": [1, 1, 1]}]}', "no complete box"),
        ('{"markups": [{"type": "ROI", "center": [1, 2, 3], "size": [1, 1, 1], "orientation": []}]}', "no complete box"),
        ('{"markups": [5]}', "not a Slicer markups file"),
        ('{"markups": {"type": "ROI"}}', "not a Slicer markups file"),
    ],
)
def test_unusable_markups_are_refused_in_a_sentence(tmp_path, text, message):
    path = tmp_path / "bad.mrk.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_rois(path)


def test_which_roi_of_which_file_is_wrong_is_said(tmp_path):
    good = {"type": "ROI", "center": [1, 2, 3], "size": [4, 5, 6]}
    (tmp_path / "all.mrk.json").write_text(json.dumps({"markups": [good, {**good, "size": [4, 5, 0]}]}))
    with pytest.raises(InputError, match=r"all\.mrk\.json #2: .*above 0"):
        read_rois(tmp_path / "all.mrk.json")


def test_missing_roi_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_rois(tmp_path / "none.mrk.json")
