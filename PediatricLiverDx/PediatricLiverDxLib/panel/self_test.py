"""What a radiologist lives with this module, from the sample case to a saved scene, told with real clicks, a real worker and real waiting.

Runs in Slicer's self-test and in the stand-in host alike, needs no network and leaves nothing behind: no node, file, layout or process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SampleData
import slicer

from .. import exam_views, sample_case
from ..outputs import REPORT, RESULT
from ..vocabulary import OUTCOMES
from .application import value_of

MODULE = "PediatricLiverDx"

#: Seconds in which something has to move while it is waited for, however slow the machine is; and what a wait may take in all.
PATIENCE_S, LONGEST_WAIT_S = 120.0, 900.0

#: Seconds that a cancelled run may take to end: 1 to be killed, the rest for a machine that is busy with something else.
CANCEL_S = 5.0


class Story:
    """Tell the story in scenes; each goes on where the one before ended. test: the unittest.TestCase that judges."""

    def __init__(self, test: Any) -> None:
        self.test = test
        self._folder = Path(tempfile.mkdtemp(prefix="PediatricLiverDxTest-"))
        self._layout_before: int | None = None
        self._cached_before = self._cached()

    def run(self) -> None:
        """Tell all of it, and tidy up however it ends."""
        try:
            self._open_module()
            for scene in self._scenes():
                started = time.perf_counter()
                scene()
                print(f"{scene.__name__.replace('_', ' ')}: {time.perf_counter() - started:.1f} s")
        finally:
            self._tidy()
        self.nothing_is_left()

    def _scenes(self) -> tuple[Callable[[], None], ...]:
        before = (self.without_an_exam_it_says_so, self.sample_case_is_assigned)
        if not self.logic.installation.is_complete():
            # tests install nothing
            return (*before, self.what_is_missing_is_said)
        return (
            *before,
            self.lesion_is_found_and_diagnosed,
            self.heat_map_and_chart_are_shown,
            self.heat_map_is_shown_for_another_class,
            self.removed_lesion_comes_back,
            self.moved_roi_is_stale_until_diagnosed_again,
            self.update_automatically_follows_the_mouse,
            self.a_run_can_be_cancelled,
            self.a_killed_worker_is_survived,
            self.report_is_saved,
            self.leaving_brings_the_layout_back,
            self.saved_scene_shows_everything_again,
            self.closing_the_scene_ends_a_run,
        )

    # the story ----------------------------------------------------------------------------------------------------------------

    def without_an_exam_it_says_so(self) -> None:
        self._click("runButton")
        self.test.assertTrue(self.session.status.problem)
        self.test.assertIn("phase", self.session.status.text)
        self._click("assignButton")
        self.test.assertIn("No CT volume", self._text("phasesNote"))

    def sample_case_is_assigned(self) -> None:
        self.volumes = sample_case.load(SampleData)
        self._click("assignButton")
        parameters = self.panel.parameters
        for phase, node in self.volumes.items():
            self.test.assertIs(getattr(parameters, phase.lower()), node, f"{phase} was not recognised")
        self.test.assertTrue(self._text("apStatus"))
        if slicer.app.layoutManager() is not None:
            self.test.assertEqual(self.panel.application.layout(), exam_views.LAYOUT_ID)

    def what_is_missing_is_said(self) -> None:
        self._click("runButton")
        self.test.assertFalse(self.session.is_busy)
        self.test.assertIn("installed", self.session.status.text)
        self.test.assertTrue(self.ui.runButton.isEnabled())

    def lesion_is_found_and_diagnosed(self) -> None:
        self._click("runButton")
        self.test.assertTrue(self.session.is_busy)
        self.test.assertEqual(self._text("runButton"), "Cancel")
        self.test.assertFalse(self.ui.detectButton.isEnabled())
        fractions = []
        self._wait_for_end(lambda: fractions.append(self.session.fraction))
        self.test.assertEqual(fractions[:-1], sorted(fractions[:-1]), "the progress bar went back")
        self._assert_done()
        truth = sample_case.sample_truth()
        rois = self.exam.rois()
        self.test.assertTrue(rois, "no lesion was found")
        self.roi = min(rois, key=lambda roi: np.linalg.norm(np.subtract(_center(roi), truth.centre_ras_mm)))
        self.test.assertTrue(
            np.all(np.abs(np.subtract(_center(self.roi), truth.centre_ras_mm)) < np.array(truth.size_mm) / 2),
            f"the lesion is at {truth.centre_ras_mm}, the ROI at {_center(self.roi)}",
        )
        row = self.exam.row_of(self.roi)
        self.test.assertEqual(row.fresh, "fresh")
        self.test.assertIn("malignant", row.side_text)
        self.test.assertEqual(value_of(self.ui.lesionTable.rowCount), len(rois))
        self.test.assertTrue(self.ui.gateFrame.isVisibleTo(self.panel.widget))

    def heat_map_and_chart_are_shown(self) -> None:
        for row in reversed(range(len(self.exam.rois()))):
            self.ui.lesionTable.setCurrentCell(row, 0)
            self._settle()
        self.panel.show_lesion(self.roi)
        self._settle()
        self.test.assertIs(self.panel.selected_lesion()[0], self.roi)
        self.test.assertIn("speak for", self._text("camLabel"))
        self.test.assertIn("phase", self._text("stage1Label"))
        self.test.assertIn("phase", self._text("stage2Label"))
        cam = self.exam.cam_node(self.roi)
        self.test.assertIsNotNone(cam)
        self.test.assertGreater(cam.GetImageData().GetScalarRange()[1], 0)
        self.test.assertEqual(set(self.exam.chart_nodes(self.roi)), {"stage1", "stage2"})
        if not self.panel.views.are_shown:
            return
        self.test.assertIs(exam_views.overlay(slicer.mrmlScene), cam)
        for phase, volume in self.volumes.items():
            composite = slicer.mrmlScene.GetSingletonNode(exam_views.view_tag(phase), "vtkMRMLSliceCompositeNode")
            self.test.assertEqual(composite.GetBackgroundVolumeID(), volume.GetID())
            view = slicer.mrmlScene.GetSingletonNode(exam_views.view_tag(phase), "vtkMRMLSliceNode")
            self.test.assertAlmostEqual(view.GetSliceToRAS().GetElement(2, 3), _center(self.roi)[2], delta=5)
        chart = slicer.mrmlScene.GetSingletonNode(exam_views.CHART_TAG, "vtkMRMLPlotViewNode")
        self.test.assertEqual(chart.GetPlotChartNodeID(), self.exam.chart_nodes(self.roi)["stage1"].GetID())
        self.ui.camCheckBox.setChecked(False)
        self._settle()
        self.test.assertEqual(composite.GetForegroundOpacity(), 0)
        self.ui.camCheckBox.setChecked(True)

    def heat_map_is_shown_for_another_class(self) -> None:
        decided = self.exam.cam_node(self.roi)
        self.ui.mapComboBox.setCurrentIndex(1 + OUTCOMES.index("OMHT"))
        self._wait(lambda: self.exam.cam_node(self.roi, "OMHT") is not None, "there is no other heat map")
        self._wait_for_end()
        self.test.assertIn("another malignant tumour", self._text("camLabel"))
        other = self.exam.cam_node(self.roi, "OMHT")
        self.test.assertIsNot(other, decided)
        if self.panel.views.are_shown:
            self._wait(lambda: exam_views.overlay(slicer.mrmlScene) is other, "it is not shown")
        self.ui.mapComboBox.setCurrentIndex(0)
        if self.panel.views.are_shown:
            self._wait(lambda: exam_views.overlay(slicer.mrmlScene) is decided, "the map of the result is not back")

    def removed_lesion_comes_back(self) -> None:
        texts, number = self._row_texts(), self.exam.rois().index(self.roi)
        self.panel.show_lesion(self.roi)
        self._settle()
        self._click("removeRoiButton")
        self.test.assertEqual(value_of(self.ui.lesionTable.rowCount), len(self.exam.rois()))
        self.test.assertNotEqual(self._row_texts(), texts)
        self._click("undoButton")
        self.test.assertEqual(self._row_texts(), texts)
        self.roi = self.exam.rois()[number]

    def moved_roi_is_stale_until_diagnosed_again(self) -> None:
        self._move(4.0)
        self._settle()
        self.test.assertEqual(self.exam.row_of(self.roi).fresh, "stale")
        self.test.assertIn("Changed", self._row_texts())
        before = self.session.results
        self._click("runButton")
        self._wait_for_end()
        self._assert_done()
        self.test.assertEqual(self.session.results, before + 1)
        self.test.assertEqual(self.exam.row_of(self.roi).fresh, "fresh")

    def update_automatically_follows_the_mouse(self) -> None:
        self.ui.automaticCheckBox.setChecked(True)
        self._settle()
        before = self.session.results
        self.roi.InvokeEvent(self.roi.PointStartInteractionEvent)
        self._move(-4.0)
        self._settle()
        self.test.assertFalse(self.session.is_busy, "it did not wait for the mouse to be released")
        self.roi.InvokeEvent(self.roi.PointEndInteractionEvent)
        self._wait(lambda: self.session.results > before, "the result did not follow the ROI")
        self._assert_done()
        self.test.assertEqual(self.exam.row_of(self.roi).fresh, "fresh")
        self.ui.automaticCheckBox.setChecked(False)
        self._settle()

    def a_run_can_be_cancelled(self) -> None:
        before = self.session.results
        self.session.stop()  # a cold worker has enough to do to be cancelled at it
        self._click("runButton")
        self._wait(lambda: self.session.fraction > 0, "it did not begin")
        started = time.perf_counter()
        self._click("runButton")
        self._wait_for_end()
        self.test.assertLess(time.perf_counter() - started, CANCEL_S)
        self.test.assertIn("Cancelled", self.session.status.text)
        self.test.assertEqual(self.session.results, before)

    def a_killed_worker_is_survived(self) -> None:
        self._click("runButton")
        self._wait(lambda: self.session.fraction > 0, "it did not begin")
        _kill(self.logic.worker)
        self._wait_for_end()
        self.test.assertTrue(self.session.status.problem, self.session.status.text)
        self.test.assertTrue(self.ui.runButton.isEnabled())

    def report_is_saved(self) -> None:
        target = self._folder / "results"
        self.panel.report.save(target)
        self._wait_for_end()
        self.test.assertEqual(self.session.status.text, "Saved.", self.session.status.text)
        self.test.assertTrue((target / REPORT).is_file())
        self.test.assertTrue((target / RESULT).is_file())
        self.test.assertIn("Saved in", self._text("savedLabel"))

    def leaving_brings_the_layout_back(self) -> None:
        if slicer.app.layoutManager() is None:
            return
        self.widget.exit()
        self.test.assertEqual(self.panel.application.layout(), self._layout_before)
        self.widget.enter()
        self.test.assertEqual(self.panel.application.layout(), exam_views.LAYOUT_ID)

    def saved_scene_shows_everything_again(self) -> None:
        texts, sentence = self._row_texts(), self._text("stage1Label")
        self.panel.parameters.camOpacity = 0.4
        path = self._folder / "exam.mrb"
        self.test.assertTrue(slicer.util.saveScene(str(path)))
        slicer.mrmlScene.Clear()
        self._settle()
        self.test.assertIsNone(self.panel.diagnosis())
        self.test.assertEqual(value_of(self.ui.lesionTable.rowCount), 0)
        slicer.util.loadScene(str(path))
        self.widget.enter()
        self._settle()
        self.test.assertEqual(self._row_texts(), texts)
        self.test.assertEqual(self._text("stage1Label"), sentence)
        self.test.assertAlmostEqual(self.panel.parameters.camOpacity, 0.4)
        self.test.assertEqual(len(self.panel.volumes()), 4)

    def closing_the_scene_ends_a_run(self) -> None:
        self._click("runButton")
        self.test.assertTrue(self.session.is_busy)
        slicer.mrmlScene.Clear()
        self._settle()
        self.test.assertFalse(self.session.is_busy)
        self.test.assertIn("scene", self.session.status.text)

    def nothing_is_left(self) -> None:
        self.test.assertFalse(self._folder.exists())
        self.test.assertFalse(self.logic.worker.is_running)
        self.test.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), 0)

    # means --------------------------------------------------------------------------------------------------------------------

    @property
    def exam(self) -> Any:
        return self.session.exam

    def _open_module(self) -> None:
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule(MODULE)
        self.widget = slicer.util.getModuleWidget(MODULE)
        self.panel, self.ui, self.logic = self.widget.panel, self.widget.ui, self.widget.logic
        self.session = self.logic.session
        # an exam may be on screen already, in our own layout
        self.widget.exit()
        # just after its start the application may not have chosen a layout yet
        self._layout_before = self.panel.application.layout() or slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self.widget.enter()
        self._settle()

    def _click(self, name: str) -> None:
        getattr(self.ui, name).click()
        self._settle()

    def _text(self, name: str) -> str:
        return value_of(getattr(self.ui, name).text)

    def _row_texts(self) -> str:
        table = self.ui.lesionTable
        return " | ".join(table.item(row, column).text() for row in range(value_of(table.rowCount)) for column in range(3))

    def _move(self, millimetres: float) -> None:
        x, y, z = _center(self.roi)
        self.roi.SetCenterWorld(x + millimetres, y, z)

    def _settle(self) -> None:
        """Let the event loop turn until what was put off to it is done."""
        for _turn in range(5):
            slicer.app.processEvents()
            time.sleep(0.005)

    def _wait(self, condition: Callable[[], bool], complaint: str = "it took long", meanwhile: Callable[[], None] = lambda: None) -> None:
        began = moved = time.monotonic()
        seen: tuple = ()
        while not condition():
            state = (self.session.step, self.session.fraction, self.session.status, self.session.results)
            if state != seen:
                seen, moved = state, time.monotonic()
            self.test.assertLess(time.monotonic() - moved, PATIENCE_S, f"{complaint}: {self.session.status.text}")
            self.test.assertLess(time.monotonic() - began, LONGEST_WAIT_S, f"{complaint}: {self.session.status.text}")
            slicer.app.processEvents()
            meanwhile()
            time.sleep(0.005)

    def _wait_for_end(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._wait(lambda: not self.session.is_busy, meanwhile=meanwhile)
        self._settle()

    def _assert_done(self) -> None:
        self.test.assertFalse(self.session.status.problem, self.session.status.text)

    @staticmethod
    def _cached() -> set[Path]:
        """Return the files that Sample Data keeps of the sample case."""
        return set(Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()).glob(f"{MODULE}-*"))

    def _tidy(self) -> None:
        if hasattr(self, "session"):
            self.session.stop()
        if getattr(self, "widget", None) is not None:
            self.widget.exit()
        slicer.mrmlScene.Clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        for path in self._cached() - self._cached_before:
            path.unlink()
        if hasattr(self, "widget"):
            self._settle()


def _center(roi: Any) -> list[float]:
    center = [0.0] * 3
    roi.GetCenterWorld(center)
    return center


def _kill(worker: Any) -> None:
    """End the worker's process as the system would when memory runs out."""
    os.kill(worker._process._number, 9)
