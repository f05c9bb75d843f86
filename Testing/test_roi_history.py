"""What was done to boxes can be taken back, results and all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from exam_scene import DIAGNOSIS, diagnosed_exam, loaded_exam, move  # noqa: E402
from PediatricLiverDxLib.lesion_nodes import is_same, shape_of  # noqa: E402
from PediatricLiverDxLib.lesion_results import DIAGNOSED_ATTRIBUTE  # noqa: E402
from PediatricLiverDxLib.roi_history import RoiHistory  # noqa: E402
from PediatricLiverDxLib.volume_nodes import placed_cam, vtk_matrix  # noqa: E402


@pytest.fixture
def history():
    """History, exam and its two diagnosed ROIs."""
    _scene, exam, _volumes = diagnosed_exam()
    history = RoiHistory(exam)
    history.watch(exam.rois())
    return history, exam, exam.rois()


def rows(exam) -> list:
    return [exam.row_of(roi) for roi in exam.rois()]


def test_there_is_nothing_to_take_back_at_first(history):
    history, _exam, rois = history
    history.settled(rois)
    assert history.next is None and history.undo() is None


def test_a_box_that_was_moved_and_resized_goes_back_in_two_steps(history):
    history, exam, (roi, _) = history
    before, diagnosed = shape_of(roi), exam.row_of(roi)
    move(roi, 7, 0, 0)
    history.settled([roi])
    moved = shape_of(roi)
    roi.SetSize(50, 60, 70)
    history.settled([roi])
    assert history.next == ("move", "Lesion 1") and exam.is_stale(roi)
    assert history.undo() is roi and is_same(shape_of(roi), moved)
    history.settled([roi])  # taking back is no step of its own
    assert history.undo() is roi and is_same(shape_of(roi), before)
    assert exam.row_of(roi) == diagnosed and history.next is None


def test_a_box_under_a_transform_goes_back_to_where_it_was(history):
    history, exam, (roi, _) = history
    transform = exam._scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    matrix = np.eye(4)
    matrix[:3, 3] = 3, 4, 5
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    roi.SetAndObserveTransformNodeID(transform.GetID())
    before = shape_of(roi)
    move(roi, 7, 0, 0)
    history.settled([roi])
    history.undo()
    assert is_same(shape_of(roi), before)


@pytest.mark.parametrize("number", [0, 1])
def test_a_removed_lesion_comes_back_with_its_result(history, number):
    history, exam, rois = history
    other = rois[1 - number]
    move(other, 3, 0, 0)
    before, cam = rows(exam), placed_cam(exam.cam_node(rois[number])).array.copy()
    history.remove(rois[number])
    assert exam.rois() == [other] and history.next == ("bring", f"Lesion {number + 1}")
    back = history.undo()
    assert rows(exam) == before and exam.rois()[number] is back
    assert [exam.row_of(roi).fresh for roi in exam.rois()] == (["fresh", "stale"] if number == 0 else ["stale", "fresh"])
    assert np.array_equal(placed_cam(exam.cam_node(back)).array, cam)
    assert set(exam.chart_nodes(back)) == {"stage1", "stage2"}


def test_all_lesions_come_back_one_after_the_other(history):
    history, exam, rois = history
    exam.set_included(rois[1], False)
    before, moved = rows(exam), shape_of(rois[0]) + [[5, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    move(rois[0], 5, 0, 0)
    history.settled(rois)
    for roi in rois:
        history.remove(roi)
    assert exam.rois() == [] and exam.diagnosis() is None
    history.undo()
    assert [row.name for row in rows(exam)] == ["Lesion 2"] and exam.row_of(exam.rois()[0]).fresh == "fresh"
    first = history.undo()
    assert is_same(shape_of(first), moved) and exam.row_of(first).fresh == "stale"
    assert history.undo() is first
    assert rows(exam) == before and not exam.is_outdated()


def test_after_another_diagnosis_only_the_box_comes_back(history):
    history, exam, rois = history
    history.remove(rois[1])
    other = replace(DIAGNOSIS, lesions=DIAGNOSIS.lesions[:1], warnings=("another",))
    exam.show(other, {"L1": rois[0].GetID()})
    back = history.undo()
    assert exam.rois() == [rois[0], back]
    assert [row.fresh for row in rows(exam)] == ["fresh", "new"]


def test_a_new_box_comes_back_where_nothing_was_diagnosed():
    _scene, exam, _volumes = loaded_exam()
    history = RoiHistory(exam)
    roi = exam.add_roi((10, 20, 30))
    history.watch([roi])
    history.remove(roi)
    back = history.undo()
    assert back.GetCenter() == pytest.approx((10, 20, 30)) and exam.row_of(back).fresh == "new"


def test_what_was_done_to_a_box_that_somebody_else_removed_is_passed_over(history):
    history, exam, rois = history
    move(rois[0], 5, 0, 0)
    move(rois[1], 5, 0, 0)
    history.settled(rois)
    exam.remove_roi(rois[1])
    assert history.next == ("move", "Lesion 1")


@pytest.mark.parametrize("transform_is_gone", [False, True])
def test_a_box_removed_under_a_transform_comes_back_to_where_it_was(history, transform_is_gone):
    history, exam, (roi, _) = history
    transform = exam._scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    matrix = np.eye(4)
    matrix[:3, 3] = 30, 40, 50
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    roi.SetAndObserveTransformNodeID(transform.GetID())
    before = shape_of(roi)
    move(roi, 7, 0, 0)
    history.settled([roi])
    moved = shape_of(roi)
    history.remove(roi)
    if transform_is_gone:
        exam._scene.RemoveNode(transform)
    back = history.undo()
    assert is_same(shape_of(back), moved) and (back.GetParentTransformNode() is None) == transform_is_gone
    if not transform_is_gone:
        assert history.undo() is back and is_same(shape_of(back), before)


def test_a_box_comes_back_with_the_name_and_lock_that_the_radiologist_gave_it(history):
    history, exam, rois = history
    new = exam.add_roi((10, 20, 30))
    for roi, name in ((new, "Segment VI"), (rois[0], "Segment II")):
        roi.SetName(name)
        roi.SetLocked(True)
        history.watch([roi])
        history.remove(roi)
        back = history.undo()
        assert (back.GetName(), bool(back.GetLocked())) == (name, True)


def test_a_box_comes_back_without_a_name_that_another_lesion_has_by_now(history):
    history, exam, rois = history
    history.remove(rois[0])
    exam.show(replace(DIAGNOSIS, lesions=DIAGNOSIS.lesions[:1], warnings=("another",)), {"L1": rois[1].GetID()})
    history.undo()
    assert [roi.GetName() for roi in exam.rois()] == ["Lesion 1", "New lesion 1"]


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_a_lesion_removed_while_another_result_is_shown_takes_nothing_of_the_others(history, stop):
    history, exam, (first, second) = history
    lesions = tuple(replace(lesion, cam=replace(lesion.cam, array=lesion.cam.array * 0 + 0.25)) for lesion in DIAGNOSIS.lesions)
    steps = exam.showing(replace(DIAGNOSIS, lesions=lesions), {"L1": first.GetID(), "L2": second.GetID()})
    for _ in range(stop):
        next(steps)
    history.remove(first)
    for _ in steps:
        pass
    history.undo()
    # what was there half was of neither run
    assert {row.name: row.fresh for row in rows(exam)} == {"Lesion 2": "fresh", "Lesion 1": "new"}
    assert placed_cam(exam.cam_node(second)).array.max() == pytest.approx(0.25)


def test_a_lesion_removed_while_the_first_result_is_shown_leaves_the_others_theirs():
    _scene, exam, _volumes = loaded_exam()
    first, second = (exam.add_box(lesion.roi) for lesion in DIAGNOSIS.lesions)
    steps = exam.showing(DIAGNOSIS, {"L1": first.GetID(), "L2": second.GetID()})
    next(steps)
    exam.remove_roi(first)
    for _ in steps:
        pass
    assert [row.fresh for row in rows(exam)] == ["fresh"] and exam.diagnosis() is not None


def test_a_box_that_is_not_drawn_is_not_kept(history):
    history, exam, rois = history
    roi = exam._scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "")
    exam.adopt_roi(roi)
    assert history.remove(roi) is False and history.next is None
    assert history.remove(rois[0]) is True


def test_a_box_that_was_added_goes_away_and_nothing_else(history):
    history, exam, (first, second) = history
    move(first, 5, 0, 0)
    history.settled(exam.rois())
    added = exam.add_roi((0.0, 0.0, 0.0))
    history.added(added)
    move(added, 5, 0, 0)
    history.settled(exam.rois())
    assert history.next == ("move", added.GetName()) and history.undo() is added
    assert history.next == ("take", added.GetName()) and history.undo() is None
    assert list(exam.rois()) == [first, second] and history.next == ("move", first.GetName())


def test_a_box_that_was_added_and_has_a_result_stays(history):
    history, exam, (first, _) = history
    added = exam.add_roi((0.0, 0.0, 0.0))
    history.added(added)
    added.SetAttribute(DIAGNOSED_ATTRIBUTE, first.GetAttribute(DIAGNOSED_ATTRIBUTE))
    assert history.next is None and history.undo() is None and added in exam.rois()
