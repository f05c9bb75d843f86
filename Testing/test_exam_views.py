"""The module's own views: what they show, where they look, how the map over them is changed, and that a saved scene gives them back."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PediatricLiverDxLib.colours import CAM_OPACITY, CAM_THRESHOLD, PHASE_COLOURS
from PediatricLiverDxLib.vocabulary import PHASES

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from exam_scene import ALIGNED, DIAGNOSIS, diagnosed_exam, loaded_scene, reopened  # noqa: E402
from PediatricLiverDxLib.exam_views import (  # noqa: E402
    CHART_TAG,
    LAYOUT_ID,
    LAYOUT_XML,
    VIEW_GROUP,
    fit_views,
    jump_to,
    overlay,
    register_layout,
    set_overlay,
    show_chart,
    show_legend,
    show_overlay,
    show_phases,
    slices_of,
    view_tag,
)
from PediatricLiverDxLib.node_references import of_class  # noqa: E402
from PediatricLiverDxLib.volume_nodes import fill_volume, new_node, numpy_matrix, vtk_matrix  # noqa: E402


@pytest.fixture
def shown():
    """Scene and exam with views that show everything."""
    scene, exam, _volumes = diagnosed_exam()
    show_phases(scene, exam.phases())
    show_overlay(scene, exam.cam_node())
    show_legend(scene, exam.cam_node())
    show_chart(scene, exam.chart_nodes(exam.rois()[0])["stage1"])
    return scene, exam


def view(scene, phase):
    return scene.GetNodeByID(f"vtkMRMLSliceNode{view_tag(phase)}")


def composite(scene, phase):
    return scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{view_tag(phase)}")


def in_view(node, ras) -> np.ndarray:
    """A point across, along and before a slice view, mm from its middle."""
    return (np.linalg.inv(numpy_matrix(node.GetSliceToRAS())) @ [*ras, 1])[:3]


def test_the_layout_is_one_that_slicer_makes_views_of():
    scene = slicer.vtkMRMLScene()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    register_layout(logic.GetLayoutNode())
    register_layout(logic.GetLayoutNode())
    logic.GetLayoutNode().SetViewArrangement(LAYOUT_ID)
    for phase in PHASES:
        node = view(scene, phase)
        assert node.GetLayoutLabel() == phase and node.GetViewGroup() == VIEW_GROUP
        np.testing.assert_allclose(np.array(node.GetLayoutColor()) * 255, PHASE_COLOURS[phase], atol=0.5)
    assert scene.GetNodeByID(f"vtkMRMLPlotViewNode{CHART_TAG}") is not None
    before = scene.GetNumberOfNodes()
    show_phases(scene, {})
    assert scene.GetNumberOfNodes() == before + 4  # a composite node each, which the application makes with its widgets


def test_a_scene_that_was_opened_in_the_layout_before_it_was_known_shows_it():
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    node = logic.GetLayoutNode()
    node.SetViewArrangement(LAYOUT_ID)
    assert not node.GetCurrentLayoutDescription(), "as Slicer does with a layout that it does not know"
    register_layout(node)
    assert node.GetCurrentLayoutDescription() == LAYOUT_XML
    assert [view(scene, phase) for phase in PHASES]


def test_views_made_before_the_layout_are_the_ones_it_shows(shown):
    scene, _ = shown
    nodes = [view(scene, phase) for phase in PHASES]
    before = numpy_matrix(view(scene, "AP").GetSliceToRAS())
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    register_layout(logic.GetLayoutNode())
    for arrangement in (LAYOUT_ID, slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView, LAYOUT_ID):
        logic.GetLayoutNode().SetViewArrangement(arrangement)
    assert [node for node in of_class(scene, "vtkMRMLSliceNode") if node.GetViewGroup() == VIEW_GROUP] == nodes
    assert len(of_class(scene, "vtkMRMLPlotViewNode")) == 1
    np.testing.assert_array_equal(numpy_matrix(view(scene, "AP").GetSliceToRAS()), before)


def test_the_phases_lie_two_by_two_with_the_chart_beside_them():
    root = ElementTree.fromstring(LAYOUT_XML)
    tags = [node.get("singletontag") for node in root.iter("view")]
    assert tags == [*map(view_tag, PHASES), CHART_TAG]
    assert [[node.get("singletontag") for node in row.iter("view")] for row in root.findall("./item/layout/item")] == [tags[:2], tags[2:4]]


def test_each_view_shows_its_phase_linked_in_the_planes_of_the_slices(shown):
    scene, exam = shown
    normal = np.array(ALIGNED.grid.direction).reshape(3, 3)[:, 2] * (-1, -1, 1)
    planes = []
    for phase in PHASES:
        assert composite(scene, phase).GetBackgroundVolumeID() == exam.phases()[phase].GetID()
        assert composite(scene, phase).GetLinkedControl() and composite(scene, phase).GetHotLinkedControl()
        matrix = numpy_matrix(view(scene, phase).GetSliceToRAS())
        np.testing.assert_allclose(matrix[:3, 2], normal, atol=1e-6)
        assert matrix[0, 0] < -0.99 and matrix[1, 1] > 0.9
        planes.append(matrix)
        width, height, step = view(scene, phase).GetFieldOfView()
        extent = np.array(ALIGNED.grid.size_xyz) * ALIGNED.grid.spacing_xyz
        assert width >= extent[0] - 1e-3 and height >= extent[1] - 1e-3 and width < 1.1 * max(extent[:2])
        assert step == pytest.approx(ALIGNED.grid.spacing_xyz[2])
    assert all((plane == planes[0]).all() for plane in planes)


def test_a_wide_view_shows_the_whole_slice(shown):
    scene, exam = shown
    for size in ((800, 300), (300, 800)):
        view(scene, "AP").SetDimensions(*size, 1)
        fit_views(scene, exam.phases())
        width, height = view(scene, "AP").GetFieldOfView()[:2]
        assert width / height == pytest.approx(size[0] / size[1])
        assert width >= 319 and height >= 249


def test_another_volume_is_laid_out_and_the_same_ones_keep_their_place(shown):
    scene, exam = shown
    view(scene, "AP").SetFieldOfView(50, 50, 1)
    show_phases(scene, exam.phases())
    assert view(scene, "AP").GetFieldOfView()[0] == 50
    show_phases(scene, {**exam.phases(), "DP": exam.phases()["PC"]})
    assert view(scene, "AP").GetFieldOfView()[0] > 300


def test_an_absent_phase_leaves_its_view_empty(shown):
    scene, exam = shown
    show_phases(scene, {"AP": exam.phases()["AP"]})
    show_overlay(scene, exam.cam_node())
    assert composite(scene, "PC").GetBackgroundVolumeID() is None and composite(scene, "PC").GetForegroundVolumeID() is None
    assert composite(scene, "AP").GetForegroundVolumeID() == exam.cam_node().GetID()


@pytest.mark.parametrize("order", ["xyz", "yzx", "zxy"])
def test_slices_of_a_volume_in_any_order_are_seen_from_the_feet(order):
    scene, *_ = loaded_scene(ALIGNED)
    volume = new_node(scene, "ScalarVolumeNode", "V")
    size, spacing = np.array([40, 30, 20]), np.array([2.0, 3.0, 4.0])
    axes = ["xyz".index(letter) for letter in order]
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) * (-1, 1, 1) * spacing)[:, axes]
    fill_volume(volume, np.zeros(size[axes][::-1], np.int16), matrix)
    directions, center, extent, step = slices_of(volume)
    np.testing.assert_allclose(directions, np.diag([-1, 1, 1]), atol=1e-9)
    np.testing.assert_allclose(center, (size - 1) * spacing / 2 * (-1, 1, 1))
    assert (*extent, step) == (80, 90, 4)


def test_a_single_slice_is_shown(shown):
    scene, _ = shown
    volume = new_node(scene, "ScalarVolumeNode", "V")
    fill_volume(volume, np.zeros((1, 30, 40), np.int16), np.diag([2.0, 2, 5, 1]))
    show_phases(scene, {"AP": volume})
    np.testing.assert_allclose(view(scene, "AP").GetFieldOfView()[2], 5)


def test_a_volume_under_a_transform_is_laid_out_as_shown(shown):
    scene, exam = shown
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (100, 0, 0)
    node.SetMatrixTransformToParent(vtk_matrix(matrix))
    before = numpy_matrix(view(scene, "AP").GetSliceToRAS())
    exam.phases()["PVP"].SetAndObserveTransformNodeID(node.GetID())
    fit_views(scene, exam.phases())
    np.testing.assert_allclose(numpy_matrix(view(scene, "AP").GetSliceToRAS())[:3, 3] - before[:3, 3], (100, 0, 0), atol=1e-6)


def test_jumping_moves_the_slice_only_while_the_point_is_in_sight(shown):
    scene, _ = shown
    for lesion in DIAGNOSIS.lesions:
        jump_to(scene, lesion.roi.center_ras_mm)
        for phase in PHASES:
            across, along, before = in_view(view(scene, phase), lesion.roi.center_ras_mm)
            assert abs(before) < 1e-6 and (abs(across) > 1 or abs(along) > 1)
    view(scene, "AP").SetFieldOfView(20, 20, 1)
    jump_to(scene, DIAGNOSIS.lesions[0].roi.center_ras_mm)
    np.testing.assert_allclose(in_view(view(scene, "AP"), DIAGNOSIS.lesions[0].roi.center_ras_mm), 0, atol=1e-6)
    assert view(scene, "AP").GetFieldOfView()[0] == 20


def test_views_are_not_linked_while_all_of_them_jump(shown):
    scene, _ = shown
    composite(scene, "DP").SetHotLinkedControl(0)
    moved: list[bool] = []
    for phase in PHASES:
        view(scene, phase).AddObserver("ModifiedEvent", lambda *_: moved.append(any(links(phase)[0] for phase in PHASES)))

    def links(phase: str) -> tuple[int, int]:
        return composite(scene, phase).GetLinkedControl(), composite(scene, phase).GetHotLinkedControl()

    jump_to(scene, [place + 7 for place in DIAGNOSIS.lesions[0].roi.center_ras_mm])
    assert moved and not any(moved)
    assert [links(phase) for phase in PHASES] == [(1, 1), (1, 1), (1, 1), (1, 0)]


def test_other_views_stay_as_they_are(shown):
    scene, exam = shown
    other = scene.CreateNodeByClass("vtkMRMLSliceNode")
    other.UnRegister(None)
    other.SetLayoutName("Red")
    other = scene.AddNode(other)
    before = numpy_matrix(other.GetSliceToRAS())
    show_phases(scene, exam.phases())
    jump_to(scene, (10, 20, 30))
    assert (numpy_matrix(other.GetSliceToRAS()) == before).all()
    assert other.GetViewGroup() != view(scene, "AP").GetViewGroup()


def test_the_map_is_changed_at_once(shown):
    scene, exam = shown
    cam = exam.cam_node(exam.rois()[0])
    show_overlay(scene, cam, 0.4, 0.5)
    assert overlay(scene) is cam
    display, largest = cam.GetScalarVolumeDisplayNode(), cam.GetImageData().GetScalarRange()[1]
    assert display.GetLowerThreshold() == pytest.approx(0.5 * largest)
    set_overlay(scene, True, 0.8, 0.2)
    assert display.GetLowerThreshold() == pytest.approx(0.2 * largest) and display.GetApplyThreshold()
    assert composite(scene, "DP").GetForegroundOpacity() == pytest.approx(0.8)
    set_overlay(scene, True, 0.8, 0.0)
    assert 0 < display.GetLowerThreshold() < 0.01
    set_overlay(scene, False, 0.8, 0.2)
    assert all(composite(scene, phase).GetForegroundOpacity() == 0 for phase in PHASES)
    show_overlay(scene, None)
    assert overlay(scene) is None
    set_overlay(scene, True, 0.8, 0.2)


def test_a_rerun_keeps_the_threshold_that_was_chosen(shown):
    scene, exam = shown
    show_overlay(scene, exam.cam_node(), CAM_OPACITY, 0.6)
    exam.show(DIAGNOSIS, {lesion.id: roi.GetID() for lesion, roi in zip(DIAGNOSIS.lesions, exam.rois(), strict=True)})
    assert overlay(scene) is exam.cam_node()
    assert exam.cam_node().GetScalarVolumeDisplayNode().GetLowerThreshold() == pytest.approx(0.6)


def test_one_legend_explains_the_colours_in_one_view(shown):
    scene, exam = shown
    show_legend(scene, exam.cam_node(), "Heat map\nbenign")
    legends = of_class(scene, "vtkMRMLColorLegendDisplayNode")
    assert legends[0].GetTitleText() == "Heat map\nbenign"
    assert len(legends) == 1
    assert legends[0].GetPrimaryDisplayNode() is exam.cam_node().GetScalarVolumeDisplayNode()
    assert [legends[0].IsDisplayableInView(view(scene, phase).GetID()) for phase in PHASES] == [False, False, False, True]
    set_overlay(scene, False, 0.5, 0.5)
    assert not legends[0].GetVisibility()


def test_nothing_happens_without_views():
    scene, *_ = loaded_scene(ALIGNED)
    set_overlay(scene, True, 0.5, 0.5)
    jump_to(scene, (0, 0, 0))
    assert overlay(scene) is None


def test_a_saved_scene_gives_the_views_back(shown, tmp_path):
    scene, exam = shown
    show_overlay(scene, exam.cam_node(), 0.7, 0.25)
    jump_to(scene, DIAGNOSIS.lesions[1].roi.center_ras_mm)
    fresh, again = reopened(scene, tmp_path / "views.mrb")
    for phase in PHASES:
        np.testing.assert_allclose(
            numpy_matrix(view(fresh, phase).GetSliceToRAS()), numpy_matrix(view(scene, phase).GetSliceToRAS()), atol=1e-4
        )
        assert composite(fresh, phase).GetForegroundOpacity() == pytest.approx(0.7)
        assert fresh.GetNodeByID(composite(fresh, phase).GetBackgroundVolumeID()) is again.phases()[phase]
    assert overlay(fresh) is again.cam_node()
    assert overlay(fresh).GetScalarVolumeDisplayNode().GetLowerThreshold() == pytest.approx(0.25, abs=1e-4)
    legend = of_class(fresh, "vtkMRMLColorLegendDisplayNode")[0]
    assert legend.GetPrimaryDisplayNode() is overlay(fresh).GetScalarVolumeDisplayNode()
    chart = fresh.GetNodeByID(f"vtkMRMLPlotViewNode{CHART_TAG}").GetPlotChartNode()
    assert chart is again.chart_nodes(again.rois()[0])["stage1"]
    # a group is written as yes or no, so it is given again
    before = numpy_matrix(view(fresh, "AP").GetSliceToRAS())
    show_phases(fresh, again.phases())
    assert view(fresh, "AP").GetViewGroup() == VIEW_GROUP
    np.testing.assert_array_equal(numpy_matrix(view(fresh, "AP").GetSliceToRAS()), before)
    assert CAM_THRESHOLD != 0.25
