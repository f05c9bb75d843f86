"""The panel's exam in the scene: what is shown, what goes stale, what a rerun changes, what a saved scene gives back."""

from __future__ import annotations

import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PediatricLiverDxLib import wording
from PediatricLiverDxLib.attribution import PhaseShapley
from PediatricLiverDxLib.colours import PHASE_COLOURS, SIDES
from PediatricLiverDxLib.vocabulary import PHASE_NAMES, PHASES, WINDOWS

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from exam_scene import ALIGNED, DIAGNOSIS, add_volumes, diagnosed_exam, loaded_exam, loaded_scene, modified_events, move, reopened  # noqa: E402
from PediatricLiverDxLib.exam_folder import EXAM_FOLDER_NAME  # noqa: E402
from PediatricLiverDxLib.exam_nodes import LESION_ATTRIBUTE, PHASE_ATTRIBUTE, ExamNodes  # noqa: E402
from PediatricLiverDxLib.lesion_nodes import NEW_COLOUR, STALE_COLOUR, fill_bars, roi_of  # noqa: E402
from PediatricLiverDxLib.node_references import of_class  # noqa: E402
from PediatricLiverDxLib.rois import Roi  # noqa: E402
from PediatricLiverDxLib.volume_nodes import vtk_matrix  # noqa: E402
from PediatricLiverDxLib.worker_requests import roi_document  # noqa: E402


@pytest.fixture
def loaded():
    """Scene, exam and volumes before anything was diagnosed."""
    return loaded_exam()


@pytest.fixture
def diagnosed():
    return diagnosed_exam()


def node_ids(scene) -> list[str]:
    return [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]


def colour(roi) -> np.ndarray:
    return np.rint(np.array(roi.GetDisplayNode().GetSelectedColor()) * 255)


def transform(scene, matrix):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    node.SetMatrixTransformToParent(vtk_matrix(matrix))
    return node


def shifted(*by_mm: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = by_mm
    return matrix


# phases -----------------------------------------------------------------------------------------------------------------------


def test_phases_get_their_windows_once(loaded):
    _, exam, volumes = loaded
    for phase, volume in volumes.items():
        display = volume.GetDisplayNode()
        assert (display.GetLevel(), display.GetWindow()) == WINDOWS[phase]
        assert volume.GetAttribute(PHASE_ATTRIBUTE) == phase
    volumes["AP"].GetDisplayNode().SetWindowLevel(400, 100)
    exam.set_phases(volumes)
    assert volumes["AP"].GetDisplayNode().GetWindow() == 400


def test_phases_that_are_exchanged_exchange_their_windows(loaded):
    _, exam, volumes = loaded
    exam.set_phases({**volumes, "PC": volumes["AP"], "AP": volumes["PC"]})
    assert volumes["AP"].GetDisplayNode().GetWindow() == WINDOWS["PC"][1]
    assert exam.phases()["PC"] is volumes["AP"]
    exam.set_phases({"AP": volumes["AP"]})
    assert exam.phases() == {"AP": volumes["AP"]}
    assert volumes["PC"].GetAttribute(PHASE_ATTRIBUTE) is None


def test_names_of_volumes_stay_and_go_nowhere(diagnosed, tmp_path):
    scene, _, volumes = diagnosed
    others = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()) if scene.GetNthNode(n) not in volumes.values()]
    assert all("Doe" in volume.GetName() for volume in volumes.values())
    assert not any("Doe" in (node.GetName() or "") for node in others)
    assert not any("Doe" in node.GetText() for node in of_class(scene, "vtkMRMLTextNode"))


def test_other_volumes_begin_another_exam_and_the_first_comes_back(diagnosed):
    scene, exam, volumes = diagnosed
    first = exam.rois()
    others = add_volumes(scene, ALIGNED, "Roe^John")
    exam.set_phases(others)
    assert exam.rois() == [] and exam.diagnosis() is None
    assert not any(roi.GetDisplayNode().GetVisibility() for roi in first)
    exam.set_phases(volumes)
    assert exam.rois() == first and all(roi.GetDisplayNode().GetVisibility() for roi in first)
    assert [exam.row_of(roi).fresh for roi in first] == ["fresh", "fresh"]


def test_another_exam_may_be_chosen_phase_by_phase_and_the_first_comes_back_so_too(diagnosed):
    scene, exam, volumes = diagnosed
    first, others = exam.rois(), add_volumes(scene, ALIGNED, "Roe^John")
    chosen = dict(volumes)
    for phase in PHASES:
        chosen[phase] = others[phase]
        exam.set_phases(chosen)
        assert not any(exam.row_of(roi).fresh == "fresh" for roi in exam.rois())
    assert exam.rois() == [] and exam.diagnosis() is None
    for phase in PHASES:
        chosen[phase] = volumes[phase]
        exam.set_phases(chosen)
    assert exam.rois() == first and [exam.row_of(roi).fresh for roi in first] == ["fresh", "fresh"]


def test_voxels_written_into_make_a_result_stale_but_not_a_saved_one(diagnosed, tmp_path):
    scene, exam, volumes = diagnosed
    slicer.util.arrayFromVolume(volumes["AP"])[:] += 1
    assert exam.row_of(exam.rois()[0]).fresh == "fresh"
    slicer.util.arrayFromVolumeModified(volumes["AP"])
    assert exam.row_of(exam.rois()[0]).fresh == "stale"
    exam.show(DIAGNOSIS, {lesion.id: roi.GetID() for lesion, roi in zip(DIAGNOSIS.lesions, exam.rois(), strict=True)})
    assert exam.row_of(exam.rois()[0]).fresh == "fresh"
    _, again = reopened(scene, tmp_path / "exam.mrb")
    assert again.row_of(again.rois()[0]).fresh == "fresh"


def test_another_model_makes_a_result_stale_until_the_first_is_back(diagnosed):
    _, exam, _ = diagnosed
    exam.set_model("another")
    assert exam.row_of(exam.rois()[0]).fresh == "stale"
    assert np.array_equal(colour(exam.rois()[0]), STALE_COLOUR)
    exam.set_model(DIAGNOSIS.bundle.sha256)
    assert exam.row_of(exam.rois()[0]).fresh == "fresh"


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_result_goes_with_its_last_lesion(diagnosed, by_hand):
    scene, exam, _ = diagnosed
    for roi in exam.rois():
        assert exam.diagnosis() is not None
        if by_hand:
            scene.RemoveNode(roi)
            exam.tidy()
        else:
            exam.remove_roi(roi)
    assert exam.diagnosis() is None


def test_a_result_without_a_lesion_stays(loaded):
    _, exam, _ = loaded
    exam.show(replace(DIAGNOSIS, lesions=()), {})
    exam.remove_roi(exam.add_roi((0, 0, 0)))
    assert exam.diagnosis() is not None and not exam.is_outdated()


def test_no_phases_leave_the_exam_as_it_is(diagnosed):
    _, exam, volumes = diagnosed
    exam.set_phases({})
    assert exam.phases() == volumes
    assert exam.row_of(exam.rois()[0]).fresh == "fresh"


# ROIs -------------------------------------------------------------------------------------------------------------------------


def test_an_added_roi_is_new_can_be_dragged_and_is_first_named_for_itself(loaded):
    _, exam, _ = loaded
    one, two = exam.add_roi((10, 20, 30)), exam.add_roi((0, 0, 60), (20, 30, 40))
    assert exam.rois() == [one, two]
    assert [exam.row_of(roi).name for roi in (one, two)] == ["New lesion 1", "New lesion 2"]
    row = exam.row_of(two)
    assert (row.size_text, row.side_text, row.subtype_text, row.fresh, row.include) == ("20 × 30 × 40 mm", "", "", "new", True)
    assert one.GetDisplayNode().GetHandlesInteractive()
    np.testing.assert_array_equal(colour(one), NEW_COLOUR)
    np.testing.assert_allclose(roi_of(one).center_ras_mm, (10, 20, 30))
    assert roi_of(one).source == "radiologist"


def test_detected_boxes_replace_only_detected_ones_that_were_not_touched(loaded):
    _, exam, _ = loaded
    own = exam.add_roi((0, 0, 60))
    boxes = [roi_document(lesion.roi) for lesion in DIAGNOSIS.lesions]
    first, _ = exam.place_detected(boxes)
    assert roi_of(first).score == 0.87 and roi_of(first).source == "detector"
    np.testing.assert_allclose(roi_of(first).axes_ras, DIAGNOSIS.lesions[0].roi.axes_ras, atol=1e-9)
    move(first, 2, 0, 0)
    assert roi_of(first).source == "radiologist" and roi_of(first).score is None
    again = exam.place_detected(boxes[:1])
    assert exam.rois() == [own, first, *again]


def test_a_roi_under_a_transform_lies_where_it_is_shown(loaded):
    scene, exam, _ = loaded
    roi = exam.add_roi((10, 20, 30), (20, 30, 40))
    matrix = shifted(5, 0, 0)
    matrix[:3, :3] = 2 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    roi.SetAndObserveTransformNodeID(transform(scene, matrix).GetID())
    box = roi_of(roi)
    np.testing.assert_allclose(box.center_ras_mm, (matrix @ [10, 20, 30, 1])[:3])
    np.testing.assert_allclose(box.size_mm, (60, 40, 80))
    np.testing.assert_allclose(box.axes_ras, np.eye(3), atol=1e-9)


def test_a_roi_that_is_not_drawn_yet_is_harmless(loaded):
    scene, exam, _ = loaded
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    exam.adopt_roi(roi)
    exam.adopt_roi(roi)
    assert exam.rois() == [roi]
    assert exam.row_of(roi).size_text == "" and exam.refresh(roi) == "new"


# results ----------------------------------------------------------------------------------------------------------------------


def test_rows_say_what_the_report_says(diagnosed):
    _, exam, _ = diagnosed
    for roi, lesion in zip(exam.rois(), DIAGNOSIS.lesions, strict=True):
        row = exam.row_of(roi)
        assert row.name == wording.lesion_name(lesion)
        assert f"{row.side_text}, {row.subtype_text}" == wording.short_result(lesion)
        assert (row.size_text, row.fresh, row.include) == (wording.lesion_size(lesion), "fresh", True)
        np.testing.assert_array_equal(colour(roi), SIDES[wording.side_of(lesion)])
        for stage, shapley in lesion.phase_shapley.items():
            assert wording.contribution(exam.lesion_of(roi).phase_shapley[stage]) == wording.contribution(shapley)
    assert exam.diagnosis().to_dict() == DIAGNOSIS.to_dict()


def test_moving_a_box_makes_its_row_stale_and_moving_it_back_fresh(diagnosed):
    _, exam, _ = diagnosed
    one, two = exam.rois()
    move(one, 0.5, 0, 0)
    assert exam.refresh(one) == "stale" and exam.row_of(one).fresh == "stale" and exam.row_of(two).fresh == "fresh"
    np.testing.assert_array_equal(colour(one), STALE_COLOUR)
    move(one, -0.5, 0, 0)
    assert exam.refresh(one) == "fresh"
    two.SetSize(*(np.array(two.GetSize()) + (0, 0, 1)))
    assert exam.is_stale(two)


def test_less_than_a_hundredth_of_a_millimetre_is_no_move(diagnosed):
    _, exam, _ = diagnosed
    move(exam.rois()[0], 0.005, 0, 0)
    assert not exam.is_stale(exam.rois()[0])


@pytest.mark.parametrize("change", ["other volume", "transform", "removed"])
def test_changed_phases_make_every_row_stale(diagnosed, change):
    scene, exam, volumes = diagnosed
    if change == "other volume":
        exam.set_phases({**volumes, "AP": add_volumes(scene, ALIGNED)["AP"]})
    elif change == "transform":
        volumes["AP"].SetAndObserveTransformNodeID(transform(scene, shifted(1, 0, 0)).GetID())
    else:
        scene.RemoveNode(volumes["AP"])
    assert [exam.row_of(roi).fresh for roi in exam.rois()] == ["stale", "stale"]


def test_what_was_moved_while_the_worker_computed_is_stale(diagnosed):
    _, exam, _ = diagnosed
    asked = exam.asked()
    ids = {lesion.id: roi.GetID() for lesion, roi in zip(DIAGNOSIS.lesions, exam.rois(), strict=True)}
    move(exam.rois()[1], 3, 0, 0)
    exam.show(DIAGNOSIS, ids, asked=asked)
    assert [exam.row_of(roi).fresh for roi in exam.rois()] == ["fresh", "stale"]


def test_a_rerun_keeps_every_node(diagnosed):
    scene, exam, _ = diagnosed
    before, rois = node_ids(scene), exam.rois()
    move(rois[1], 1, 0, 0)
    moved = Roi(roi_of(rois[1]).center_ras_mm, roi_of(rois[1]).size_mm, roi_of(rois[1]).axes_ras, id="L2")
    lesions = (DIAGNOSIS.lesions[0], replace(DIAGNOSIS.lesions[1], roi=moved, malignant_probability=0.61, decision="HB"))
    nodes = [exam.cam_node(rois[1]), exam.chart_nodes(rois[1])["stage1"], rois[1], scene.GetFirstNodeByName("Results")]
    counts = [modified_events(node) for node in nodes]
    exam.show(replace(DIAGNOSIS, lesions=lesions), {"L1": rois[0].GetID(), "L2": rois[1].GetID()})
    assert node_ids(scene) == before
    assert exam.row_of(rois[1]).side_text == "malignant 61 %" and exam.row_of(rois[1]).fresh == "fresh"
    # all that changes in a node is told at once; a markup tells of its own changes twice
    assert [len(events) for events in counts] == [1, 1, 2, 1]


def test_a_roi_is_never_heard_to_be_stale_while_its_new_result_is_shown(diagnosed):
    _, exam, _ = diagnosed
    roi = exam.rois()[0]
    move(roi, 5, 0, 0)
    ids = {lesion.id: one.GetID() for lesion, one in zip(DIAGNOSIS.lesions, exam.rois(), strict=True)}
    heard = []
    roi.AddObserver("ModifiedEvent", lambda caller, event: heard.append(exam.refresh(roi)))
    exam.show(DIAGNOSIS, ids)
    assert heard and set(heard) == {"fresh"}


def test_lesions_that_exchange_their_numbers_keep_their_nodes(diagnosed):
    _, exam, _ = diagnosed
    one, two = exam.rois()
    cam = exam.cam_node(one)
    swapped = tuple(replace(lesion, id=id) for lesion, id in zip(DIAGNOSIS.lesions[::-1], ("L1", "L2"), strict=True))
    exam.show(replace(DIAGNOSIS, lesions=swapped), {"L1": two.GetID(), "L2": one.GetID()})
    assert exam.rois() == [two, one]
    assert exam.cam_node(one) is cam and cam.GetName() == "Lesion 2 heat map"
    assert exam.row_of(one).name == "Lesion 2"


def test_a_roi_that_the_worker_did_not_see_is_new(diagnosed):
    _, exam, _ = diagnosed
    late = exam.add_roi((0, 0, 60))
    ids = {lesion.id: roi.GetID() for lesion, roi in zip(DIAGNOSIS.lesions, exam.rois(), strict=False)}
    exam.show(DIAGNOSIS, ids)
    assert exam.rois()[-1] is late and exam.row_of(late).fresh == "new"


def test_a_lesion_that_is_not_in_the_new_result_loses_its_old_one(diagnosed):
    scene, exam, _ = diagnosed
    one, two = exam.rois()
    exam.show(replace(DIAGNOSIS, lesions=DIAGNOSIS.lesions[:1]), {"L1": one.GetID()})
    assert exam.row_of(two).fresh == "new" and exam.cam_node(two) is None
    assert scene.GetFirstNodeByName("Lesion 2 heat map") is None and scene.GetFirstNodeByName("Heat map of all lesions") is None
    assert exam.cam_node() is exam.cam_node(one)


def test_the_map_of_all_lesions_leaves_out_what_is_left_out(diagnosed):
    _, exam, _ = diagnosed
    one, two = exam.rois()
    together = exam.cam_node()
    assert together.GetAttribute(LESION_ATTRIBUTE), "ours, and offered to nobody as a phase"
    assert together.GetName() == "Heat map of all lesions" and together.GetImageData().GetScalarRange()[1] == 1
    exam.set_included(two, False)
    assert exam.cam_node() is exam.cam_node(one) and exam.included_rois() == [one] and not exam.row_of(two).include
    exam.set_included(two, True)
    assert exam.cam_node().GetName() == "Heat map of all lesions"


def test_charts_have_a_bar_a_phase_in_its_colour(diagnosed):
    _, exam, _ = diagnosed
    lesion, charts = DIAGNOSIS.lesions[0], exam.chart_nodes(exam.rois()[0])
    assert set(charts) == {"stage1", "stage2"}
    for stage, chart in charts.items():
        series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
        assert [one.GetName() for one in series] == [PHASE_NAMES[phase].capitalize() for phase in PHASES]
        for phase, bar in zip(PHASES, series, strict=True):
            np.testing.assert_allclose(np.array(bar.GetColor()) * 255, PHASE_COLOURS[phase], atol=0.5)
            value = bar.GetTableNode().GetTable().GetColumnByName(bar.GetYColumnName()).GetValue(0)
            assert value == pytest.approx(lesion.phase_shapley[stage].values[phase] * 100, abs=0.006)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_bars_come_to_stand_on_their_numbers(loaded, n):
    scene, *_ = loaded
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    phases = PHASES[:n]
    fill_bars(table, PhaseShapley("malignant", 0.5, 0.5 + 0.1 * n, dict.fromkeys(phases, 0.1)))
    for k, phase in enumerate(phases):
        near, far = (table.GetTable().GetColumnByName(f"{phase} place").GetValue(row) for row in (0, 1))
        # vtkChartXY: all bars of a chart share 0.8 of the first two places' distance, and are shifted against each other by their width
        width = 0.8 * (far - near) / n
        assert width == pytest.approx(0.8)
        assert near - ((n - 1) / 2 - k) * width == pytest.approx(k + 1)
        assert far - near == pytest.approx(n)


def test_a_phase_that_goes_takes_its_bar_along(diagnosed):
    scene, exam, _ = diagnosed
    lesson = DIAGNOSIS.lesions[0]
    fewer = {stage: replace(s, values={p: v for p, v in s.values.items() if p != "PC"}) for stage, s in lesson.phase_shapley.items()}
    roi = exam.rois()[0]
    exam.show(replace(DIAGNOSIS, lesions=(replace(lesson, phase_shapley=fewer),)), {"L1": roi.GetID()})
    assert exam.chart_nodes(roi)["stage1"].GetNumberOfPlotSeriesNodes() == 3
    assert len(of_class(scene, "vtkMRMLPlotSeriesNode")) == 6


def test_removing_results_leaves_phases_and_boxes(diagnosed):
    scene, exam, volumes = diagnosed
    exam.remove_all_results()
    assert exam.diagnosis() is None and exam.phases() == volumes
    assert [exam.row_of(roi).fresh for roi in exam.rois()] == ["new", "new"]
    for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode"):
        assert of_class(scene, kind) == []
    assert exam.cam_node() is None


def test_dragging_costs_little(diagnosed):
    _, exam, _ = diagnosed
    roi = exam.rois()[0]
    started = time.process_time()
    for _ in range(50):
        exam.refresh(roi)
    assert (time.process_time() - started) / 50 < 0.005


# nodes that go ----------------------------------------------------------------------------------------------------------------


def test_a_removed_roi_takes_its_lesion_along(diagnosed):
    scene, exam, _ = diagnosed
    one, two = exam.rois()
    exam.remove_roi(one)
    assert exam.rois() == [two] and scene.GetFirstNodeByName("Lesion 1 heat map") is None
    exam.remove_roi(one)
    exam.remove_roi(None)


def test_a_roi_that_somebody_else_removed_is_tidied_away(diagnosed):
    scene, exam, _ = diagnosed
    one, two = exam.rois()
    scene.RemoveNode(one)
    exam.tidy()
    assert exam.rois() == [two]
    assert not any((scene.GetNthNode(n).GetName() or "").startswith("Lesion 1") for n in range(scene.GetNumberOfNodes()))
    assert exam.cam_node() is exam.cam_node(two)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    assert hierarchy.GetItemByName("Lesion 1: malignant 93 %, hepatoblastoma 90 %") == 0


def test_a_roi_removed_while_the_worker_computed_does_not_come_back(diagnosed):
    scene, exam, _ = diagnosed
    one, two = exam.rois()
    ids = {"L1": one.GetID(), "L2": two.GetID()}
    scene.RemoveNode(one)
    exam.show(DIAGNOSIS, ids)
    assert exam.rois() == [two] and exam.row_of(two).fresh == "fresh"


def test_removed_result_nodes_come_back_with_the_next_result(diagnosed):
    scene, exam, _ = diagnosed
    one, two = exam.rois()
    for name in ("Lesion 1 heat map", "Lesion 1 malignancy chart", "Results", "Heat map colours", "Heat map of all lesions"):
        scene.RemoveNode(scene.GetFirstNodeByName(name))
    assert exam.cam_node(one) is None
    exam.show(DIAGNOSIS, {"L1": one.GetID(), "L2": two.GetID()})
    assert exam.cam_node(one).GetDisplayNode().GetColorNode().GetName() == "Heat map colours"
    assert exam.chart_nodes(one)["stage1"].GetNumberOfPlotSeriesNodes() == 4


def test_a_closed_scene_raises_nothing(diagnosed):
    scene, exam, volumes = diagnosed
    roi = exam.rois()[0]
    scene.Clear(0)
    assert exam.rois() == [] and exam.phases() == {} and exam.diagnosis() is None and exam.cam_node() is None
    exam.row_of(roi), exam.is_stale(roi), exam.refresh(roi), exam.chart_nodes(roi)
    exam.remove_roi(roi), exam.set_included(roi, False), exam.remove_all_results(), exam.tidy(), exam.set_phases(volumes)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0


# a saved scene ----------------------------------------------------------------------------------------------------------------


def test_a_saved_scene_gives_everything_back(diagnosed, tmp_path):
    scene, exam, volumes = diagnosed
    move(exam.rois()[1], 2, 0, 0)
    exam.set_included(exam.rois()[1], False)
    exam.add_roi((0, 0, 60))
    rows, text = [exam.row_of(roi) for roi in exam.rois()], exam.diagnosis().to_dict()
    exam.refresh_all()
    fresh, again = reopened(scene, tmp_path / "exam.mrb")
    assert [again.row_of(roi) for roi in again.rois()] == rows
    assert [row.fresh for row in rows] == ["fresh", "stale", "new"]
    assert again.diagnosis().to_dict() == text
    assert {phase: volume.GetName() for phase, volume in again.phases().items()} == {p: v.GetName() for p, v in volumes.items()}
    roi = again.rois()[0]
    assert again.cam_node(roi).GetDisplayNode().GetColorNode().GetName() == "Heat map colours"
    assert again.chart_nodes(roi)["stage2"].GetNthPlotSeriesNode(3).GetTableNode() is not None
    assert again.lesion_of(roi).phase_shapley == exam.lesion_of(exam.rois()[0]).phase_shapley
    before = node_ids(fresh)
    again.show(DIAGNOSIS, {"L1": roi.GetID(), "L2": again.rois()[1].GetID()})
    assert [id for id in node_ids(fresh) if id not in before and "AllLesions" not in id] in ([], node_ids(fresh)[-2:])


def test_a_scene_opened_into_another_finds_its_own_nodes(diagnosed, tmp_path):
    scene, *_ = diagnosed
    assert scene.WriteToMRB(str(tmp_path / "exam.mrb"))
    other, parameters, volumes = loaded_scene(ALIGNED, "Roe^John")
    mine = ExamNodes.of(other, parameters)
    mine.set_phases(volumes)
    mine.show(DIAGNOSIS, {})
    own = mine.rois()
    cache, files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(tmp_path))
    files.SetCacheManager(cache)
    other.SetDataIOManager(files)
    assert other.ReadFromMRB(str(tmp_path / "exam.mrb"), False)
    assert len(of_class(other, "vtkMRMLMarkupsROINode")) == 4
    found = ExamNodes.of(other, of_class(other, "vtkMRMLScriptedModuleNode")[0])
    assert len(found.rois()) == 2
    assert [found.row_of(roi).fresh for roi in found.rois()] == ["fresh", "fresh"]
    assert all(mine.cam_node(roi) is not None for roi in own)


def test_file_names_in_a_saved_scene_are_plain(diagnosed, tmp_path):
    scene, *_ = diagnosed
    reopened(scene, tmp_path / "exam.mrb")
    with zipfile.ZipFile(tmp_path / "exam.mrb") as archive:
        names = [name.split("/")[-1] for name in archive.namelist()]
    own = [name for name in names if "Doe" not in name]
    assert {"Lesion 1.mrk.json", "Lesion 1 heat map.nrrd", "Lesion 2 phase values.tsv", "Results.tsv", "Diagnosis.txt"} <= set(own)
    assert not any("%" in name for name in own)


def test_everything_lies_in_the_folder_of_the_exam(diagnosed):
    scene, exam, volumes = diagnosed
    exam.add_roi((0, 0, 60))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemByName(EXAM_FOLDER_NAME)
    kinds = ("ScalarVolumeNode", "MarkupsROINode", "TableNode", "PlotChartNode", "PlotSeriesNode", "TextNode")
    for node in [node for kind in kinds for node in of_class(scene, f"vtkMRML{kind}")]:
        item = hierarchy.GetItemByDataNode(node)
        while item not in (folder, hierarchy.GetSceneItemID(), 0):
            item = hierarchy.GetItemParent(item)
        assert item == folder, node.GetName()
    assert len(volumes) == 4


def test_an_exam_from_dicom_stays_in_its_study():
    scene, parameters, volumes = loaded_scene(ALIGNED)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "P")
    study = hierarchy.CreateStudyItem(patient, "S")
    for volume in volumes.values():
        hierarchy.CreateItem(study, volume)
    exam = ExamNodes.of(scene, parameters)
    exam.set_phases(volumes)
    exam.show(DIAGNOSIS, {})
    folder = hierarchy.GetItemByName(EXAM_FOLDER_NAME)
    assert hierarchy.GetItemParent(folder) == study
    for node in (*volumes.values(), *exam.rois()):
        assert hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(node), "Study") == study


def test_a_users_own_folder_is_left_alone(diagnosed):
    scene, exam, _ = diagnosed
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    mine = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Mine")
    roi = exam.rois()[0]
    hierarchy.CreateItem(mine, roi)
    exam.tidy()
    exam.show(DIAGNOSIS, {lesion.id: one.GetID() for lesion, one in zip(DIAGNOSIS.lesions, exam.rois(), strict=True)})
    exam.remove_roi(roi)
    assert hierarchy.GetItemName(mine) == "Mine"


def test_a_map_for_another_outcome_hangs_on_the_lesion_until_there_is_another_result(diagnosed, tmp_path):
    scene, exam, _ = diagnosed
    roi, lesion = exam.rois()[0], exam.lesion_of(exam.rois()[0])
    side = wording.side_of(lesion)
    assert exam.cam_node(roi, side) is exam.cam_node(roi) and exam.cam_node(roi, "HB") is None
    cam = replace(DIAGNOSIS.lesions[0].cam, array=DIAGNOSIS.lesions[0].cam.array * 0.5)
    exam.show_map(roi, "HB", cam)
    other = exam.cam_node(roi, "HB")
    assert other.GetName() == "Lesion 1 heat map HB" and other is not exam.cam_node(roi)
    assert other.GetImageData().GetScalarRange()[1] == pytest.approx(0.5 * exam.cam_node(roi).GetImageData().GetScalarRange()[1])
    exam.show_map(roi, "HB", cam)
    assert exam.cam_node(roi, "HB") is other
    _, again = reopened(scene, tmp_path / "scene.mrb")
    assert again.cam_node(again.rois()[0], "HB").GetName() == other.GetName()
    exam.show(DIAGNOSIS, {lesion.id: roi.GetID() for lesion, roi in zip(DIAGNOSIS.lesions, exam.rois(), strict=True)})
    assert exam.cam_node(roi, "HB") is None and scene.GetFirstNodeByName("Lesion 1 heat map HB") is None
    exam.show_map(roi, "HB", cam)
    exam.remove_roi(roi)
    assert scene.GetFirstNodeByName("Lesion 1 heat map HB") is None


def test_what_is_removed_while_a_result_is_shown_is_passed_over(loaded):
    scene, exam, _ = loaded
    rois = exam.place_detected([roi_document(lesion.roi) for lesion in DIAGNOSIS.lesions])
    steps = exam.showing(DIAGNOSIS, dict(zip(("L1", "L2"), (roi.GetID() for roi in rois), strict=True)))
    for _ in range(3):
        next(steps)
    scene.RemoveNode(rois[0])
    assert sum(1 for _ in steps) > 5  # every few nodes the event loop has its turn
    exam.tidy()
    assert exam.rois() == [rois[1]] and exam.row_of(rois[1]).fresh == "fresh"
    assert scene.GetFirstNodeByName("Lesion 1 heat map") is None
