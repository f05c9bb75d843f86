"""scene.mrb: written, read again by Slicer's own reader, and shown as Slicer would show it."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from example_diagnosis import example_aligned, example_diagnosis
from PediatricLiverDxLib.colours import CAM_THRESHOLD, SIDES, cam_ramp
from PediatricLiverDxLib.vocabulary import PHASE_NAMES, PHASES, WINDOWS

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from PediatricLiverDxLib.exam_nodes import EXAM_FOLDER_NAME, ExamNodes  # noqa: E402
from PediatricLiverDxLib.lesion_nodes import summary_text  # noqa: E402
from PediatricLiverDxLib.result_document import grid_to_ras  # noqa: E402
from PediatricLiverDxLib.scene import build_scene, new_scene, write_scene  # noqa: E402
from slice_view import SIDE, read_mrb  # noqa: E402


@pytest.fixture(scope="module")
def exam():
    aligned = example_aligned(oblique=True)
    return aligned, example_diagnosis(aligned, 2)


@pytest.fixture(scope="module")
def mrb(exam, tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.mrb"
    write_scene(exam[1], exam[0], path)
    return path


@pytest.fixture(scope="module")
def scene(mrb):
    return read_mrb(str(mrb))


def voxels_to_ras(volume) -> np.ndarray:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def test_phases_come_back_with_voxels_geometry_and_window(exam, scene):
    aligned, _ = exam
    for p, phase in enumerate(PHASES):
        volume = scene.GetFirstNodeByName(PHASE_NAMES[phase].capitalize())
        array = slicer.util.arrayFromVolume(volume)
        assert array.dtype == np.int16
        np.testing.assert_allclose(array, aligned.hu[p], atol=0.5)
        np.testing.assert_allclose(voxels_to_ras(volume), grid_to_ras(aligned.grid), atol=1e-4)
        level, width = WINDOWS[phase]
        assert (volume.GetDisplayNode().GetLevel(), volume.GetDisplayNode().GetWindow()) == (level, width)
        assert not volume.GetDisplayNode().GetAutoWindowLevel()
        assert volume.GetDisplayNode().GetColorNode().GetName() is not None
        assert volume.GetAttribute("PediatricLiverDx.Phase") == phase


def test_a_voxel_lies_where_the_grid_says(exam, scene):
    aligned, _ = exam
    index = np.array([11.0, 7.0, 5.0])
    ras = voxels_to_ras(scene.GetFirstNodeByName("Arterial")) @ [*index, 1]
    np.testing.assert_allclose(ras[:3], aligned.grid.index_to_ras(index[None])[0], atol=1e-4)


def test_rois_come_back_in_ras_with_their_result(exam, scene):
    for lesion, side in zip(exam[1].lesions, ("malignant", "benign"), strict=True):
        roi = next(node for node in of_class(scene, "vtkMRMLMarkupsROINode") if node.GetAttribute("PediatricLiverDx.Lesion") == lesion.id)
        center = [0.0] * 3
        roi.GetCenterWorld(center)
        np.testing.assert_allclose(center, lesion.roi.center_ras_mm, atol=1e-3)
        np.testing.assert_allclose(roi.GetSize(), lesion.roi.size_mm, atol=1e-3)
        matrix = roi.GetObjectToWorldMatrix()
        axes = [[matrix.GetElement(row, column) for row in range(3)] for column in range(3)]
        np.testing.assert_allclose(axes, lesion.roi.axes_ras, atol=1e-4)
        assert roi.GetName() == f"Lesion {lesion.id[1:]}"
        assert exam_of(scene).row_of(roi).side_text.startswith(side)
        np.testing.assert_allclose(np.array(roi.GetDisplayNode().GetSelectedColor()) * 255, SIDES[side], atol=1)
        assert not roi.GetLocked()


def test_cams_come_back_thresholded_in_colours_of_their_own(exam, scene):
    aligned, diagnosis = exam
    for lesion in diagnosis.lesions:
        volume = scene.GetFirstNodeByName(f"Lesion {lesion.id[1:]} heat map")
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), lesion.cam.array)
        np.testing.assert_allclose(voxels_to_ras(volume), grid_to_ras(aligned.grid, lesion.cam.start_xyz), atol=1e-4)
        display = volume.GetDisplayNode()
        assert display.GetApplyThreshold()
        largest = lesion.cam.array.max()
        assert display.GetLowerThreshold() == pytest.approx(CAM_THRESHOLD * largest, rel=1e-4)
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0, largest), abs=1e-4)
        colours = display.GetColorNode()
        assert colours.GetName() == "Heat map colours"
        assert colours.GetNumberOfColors() == 256
        colour = [0.0] * 4
        colours.GetColor(255, colour)
        np.testing.assert_allclose(np.array(colour[:3]) * 255, cam_ramp()[255], atol=1.5)
        colours.GetColor(0, colour)
        assert colour[3] == 0


def test_views_show_the_four_phases_with_the_overlay_at_the_first_lesion(exam, scene):
    _, diagnosis = exam
    for phase, view in zip(PHASES, ("Red", "Slice4", "Green", "Yellow"), strict=True):
        composite = scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{view}")
        assert scene.GetNodeByID(composite.GetBackgroundVolumeID()).GetName() == PHASE_NAMES[phase].capitalize()
        assert scene.GetNodeByID(composite.GetForegroundVolumeID()).GetName() == "Heat map of all lesions"
        assert composite.GetForegroundOpacity() == pytest.approx(0.55)
        matrix = scene.GetNodeByID(f"vtkMRMLSliceNode{view}").GetSliceToRAS()
        normal = np.array([matrix.GetElement(row, 2) for row in range(3)])
        origin = np.array([matrix.GetElement(row, 3) for row in range(3)])
        assert normal @ (np.array(diagnosis.lesions[0].roi.center_ras_mm) - origin) == pytest.approx(0, abs=1e-3)
    layout = scene.GetNodeByID("vtkMRMLLayoutNodevtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView


def test_phase_values_come_back_as_table_and_chart(exam, scene):
    lesion = exam[1].lesions[0]
    table = scene.GetFirstNodeByName("Lesion 1 phase values").GetTable()
    names = [table.GetColumn(0).GetValue(row) for row in range(table.GetNumberOfRows())]
    assert names == ["Without any phase", *(f"{PHASE_NAMES[phase].capitalize()} adds" for phase in PHASES), "With all acquired phases"]
    for shapley, title in zip(lesion.phase_shapley.values(), ("Malignant (%)", "Hepatoblastoma (%)"), strict=True):
        values = [table.GetColumnByName(title).GetValue(row) for row in range(6)]
        np.testing.assert_allclose(values[1:5], [shapley.values[phase] * 100 for phase in PHASES], atol=0.006)
        assert values[5] == pytest.approx(sum(values[:5]), abs=0.05)
    chart = scene.GetNodeByID("vtkMRMLPlotViewNodePlotView1").GetPlotChartNode()
    assert chart.GetName() == "Lesion 1 malignancy chart"
    names = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names == [PHASE_NAMES[phase].capitalize() for phase in PHASES]
    assert all(chart.GetNthPlotSeriesNode(n).GetTableNode() is not None for n in range(4))


def test_everything_lies_in_one_folder(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemByName(EXAM_FOLDER_NAME)
    kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLMarkupsROINode", "vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLTextNode")
    for node in [node for kind in kinds for node in of_class(scene, kind)]:
        item = hierarchy.GetItemByDataNode(node)
        while item not in (folder, hierarchy.GetSceneItemID()):
            item = hierarchy.GetItemParent(item)
        assert item == folder, node.GetName()


def test_summary_says_result_gate_and_research(exam, scene):
    text = scene.GetFirstNodeByName("Summary").GetText()
    assert text == summary_text(exam[1])
    for words in ("Research software", "Look twice", "malignant (93 %)"):
        assert words in text
    table = scene.GetFirstNodeByName("Results").GetTable()
    assert table.GetNumberOfRows() == 2


def test_absent_phases_and_no_lesion_leave_their_nodes_out(tmp_path):
    aligned = example_aligned(present=("PVP",))
    write_scene(example_diagnosis(aligned, 0), aligned, tmp_path / "one.mrb")
    scene = read_mrb(str(tmp_path / "one.mrb"))
    assert [node.GetName() for node in of_class(scene, "vtkMRMLScalarVolumeNode")] == ["Portal venous"]
    assert scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() is None
    assert not of_class(scene, "vtkMRMLMarkupsROINode")


def test_a_second_exam_of_a_scene_gets_a_folder_of_its_own(exam):
    aligned, diagnosis = exam
    scene = new_scene()
    for _ in range(2):
        build_scene(scene, diagnosis, aligned)
    assert len(of_class(scene, "vtkMRMLMarkupsROINode")) == 4
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folders = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in of_class(scene, "vtkMRMLTextNode")]
    assert len(set(folders)) == 2


def test_mrb_holds_no_path_of_this_machine(mrb):
    with zipfile.ZipFile(mrb) as archive:
        names = archive.namelist()
        assert all(not name.startswith("/") and ".." not in name for name in names)
        text = archive.read(next(name for name in names if name.endswith(".mrml"))).decode()
    assert str(mrb.parent) not in text
    assert "/tmp" not in text


def test_nothing_is_printed(tmp_path, capfd):
    aligned = example_aligned()
    write_scene(example_diagnosis(aligned, 2), aligned, tmp_path / "scene.mrb")
    read_mrb(str(tmp_path / "scene.mrb"))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


def test_a_folder_that_cannot_be_written_is_an_os_error(exam, tmp_path):
    with pytest.raises(OSError):
        write_scene(exam[1], exam[0], tmp_path / "missing" / "scene.mrb")


def test_four_phases_are_written_within_seconds(tmp_path):
    aligned = example_aligned((256, 256, 64))
    diagnosis = example_diagnosis(aligned, 1)
    started = time.process_time()
    write_scene(diagnosis, aligned, tmp_path / "scene.mrb")
    assert time.process_time() - started < 1.5


@pytest.fixture(scope="module")
def picture(mrb):
    path = mrb.with_name("arterial.png")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("slice_view.py"), mrb, "Slice4", path], capture_output=True, text=True, timeout=120
    )
    if done.returncode < 0 or not path.is_file():
        pytest.fail(f"the slice view was not rendered (is libegl1 installed?): {done.returncode} {done.stderr[-500:]}")
    # VTK stores pictures top row first
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., :3].astype(int)


def pixel_of(exam, ras) -> tuple[int, int]:
    """Row and column of a point in the lesion's slice in the rendered view."""
    aligned, _ = exam
    to_ras = grid_to_ras(aligned.grid)
    center = (to_ras @ [*(np.asarray(aligned.grid.size_xyz) - 1) / 2, 1])[:3]
    axes = to_ras[:3, :3] / np.linalg.norm(to_ras[:3, :3], axis=0)
    extent = (np.linalg.norm(to_ras[:3, :2], axis=0) * aligned.grid.size_xyz[:2]).max()
    right, down = axes[:, 0] @ (ras - center), axes[:, 1] @ (ras - center)
    return round(SIDE / 2 + down / extent * SIDE), round(SIDE / 2 + right / extent * SIDE)


def test_view_shows_the_ct_in_its_window_grey_outside_the_overlay(exam, picture):
    aligned, diagnosis = exam
    z = int(aligned.grid.ras_to_index(np.array(diagnosis.lesions[0].roi.center_ras_mm)[None])[0, 2] + 0.5)
    spine = aligned.grid.index_to_ras(np.array([[aligned.grid.size_xyz[0] * 0.5, aligned.grid.size_xyz[1] * 0.76, z]]))[0]
    row, column = pixel_of(exam, spine)
    np.testing.assert_array_equal(picture[row, column], [255, 255, 255])
    corner = picture[5, 5]
    np.testing.assert_array_equal(corner, [0, 0, 0])
    grey = picture[row + 8, column - 120]
    assert np.ptp(grey) <= 1


def test_view_shows_the_box_at_its_place_and_the_overlay_within(exam, picture):
    colour = np.array(SIDES["malignant"])
    like_box = np.abs(picture - colour).sum(-1) < 60
    coloured = np.ptp(picture, axis=-1) > 25
    inside = np.zeros(coloured.shape, bool)
    for n, roi in enumerate(lesion.roi for lesion in exam[1].lesions):
        center, axes, half = np.array(roi.center_ras_mm), np.array(roi.axes_ras), np.array(roi.size_mm) / 2
        edges = [pixel_of(exam, center + sign * half[axis] * axes[axis]) for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1))]
        rows, columns = (sorted(edge[k] for edge in edges) for k in (0, 1))
        inside[rows[0] - 4 : rows[-1] + 5, columns[0] - 4 : columns[-1] + 5] = True
        if n == 0:  # the other's overlay ends below this slice
            assert coloured[rows[0] + 8 : rows[-1] - 8, columns[0] + 8 : columns[-1] - 8].mean() > 0.1
            assert all(like_box[row - 3 : row + 4, column - 3 : column + 4].any() for row, column in edges)
    assert not (coloured & ~inside).any()


def exam_of(scene) -> ExamNodes:
    return ExamNodes.of(scene)


def of_class(scene, name: str) -> list:
    nodes = scene.GetNodesByClass(name)
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
