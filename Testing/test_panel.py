"""The panel in a window with a real worker: what a radiologist does, and what goes wrong meanwhile, ends in a usable panel."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6")
slicer = pytest.importorskip("slicer")

MODULE = Path(__file__).resolve().parents[1] / "PediatricLiverDx" / "PediatricLiverDx.py"

PHASES = ("PC", "AP", "PVP", "DP")

#: Seconds in which anything here happens on a busy machine.
PATIENCE = 120


@pytest.fixture
def host():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from host.host import Host

    with Host(size=(1000, 900)) as host:
        host.load(MODULE)
        slicer.util.selectModule("PediatricLiverDx")
        host.turn()
        yield host
        assert not host.errors


@pytest.fixture
def panel(host):
    return slicer.util.getModuleWidget("PediatricLiverDx").panel


@pytest.fixture
def exam(host, panel, tiny_study, tiny_bundle):
    """The panel with four loaded phases and a bundle that is quick."""
    for phase in ("PC", "AP", "PVP", "DP"):
        slicer.util.loadVolume(str(tiny_study / f"{phase}.nrrd"), {"name": phase})
    panel.parameters.bundle = str(tiny_bundle)
    panel.ui.assignButton.click()
    host.turn()
    return panel


@pytest.fixture
def diagnosed(host, exam):
    exam.ui.runButton.click()
    ended(host, exam)
    assert not exam.session.status.problem, exam.session.status.text
    assert exam.session.exam.rois()
    return exam


def ended(host, panel) -> None:
    assert host.wait(lambda: not panel.session.is_busy, PATIENCE)
    host.turn(0.05)


def state_of(panel, row: int = 0) -> str:
    return panel.ui.lesionTable.item(row, 2).text()


def move(roi, millimetres: float = 5.0) -> None:
    center = [0.0] * 3
    roi.GetCenterWorld(center)
    roi.SetCenterWorld(center[0] + millimetres, center[1], center[2])


def test_is_no_wider_than_a_narrow_module_panel(diagnosed):
    assert diagnosed.widget.parentWidget().minimumSizeHint().width() <= 320


def test_says_first_what_the_model_is_good_for(host, panel):
    assert host.wait(lambda: panel.model.state.checked, PATIENCE)
    host.turn()
    assert "phantoms only" in panel.ui.warningLabel.text
    assert "Not a medical device" in panel.ui.researchLabel.text
    assert panel.ui.bundleState.text.startswith("Files checked")


def test_a_damaged_model_is_said_before_anything_runs(host, panel, tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "damaged")
    with (tmp_path / "damaged" / "detector.onnx").open("ab") as file:
        file.write(b"x")
    panel.parameters.bundle = str(tmp_path / "damaged")
    assert host.wait(lambda: panel.model.state.checked and panel.model.state.problem, PATIENCE)
    host.turn()
    assert "detector.onnx" in panel.ui.bundleState.text


@pytest.mark.parametrize("phantoms", [True, False])
def test_only_a_model_of_phantoms_alone_is_said_to_be_one(host, panel, tiny_bundle, tmp_path, phantoms):
    """Not one whose classifiers alone know phantoms only, though its sentences say that word."""
    shutil.copytree(tiny_bundle, tmp_path / "model")
    document = json.loads((tmp_path / "model" / "bundle.json").read_text(encoding="utf-8"))
    document |= {"trained_on": "detector: 340 CTs; classifiers: phantoms", "training": {"phantoms": phantoms}}
    (tmp_path / "model" / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    panel.parameters.bundle = str(tmp_path / "model")
    assert host.wait(lambda: panel.model.state.folder == tmp_path / "model" and panel.model.state.checked, PATIENCE)
    host.turn()
    assert not panel.model.state.problem
    assert panel.ui.warningLabel.isVisible() is phantoms


def test_a_folder_without_a_model_is_said(host, panel, tmp_path):
    panel.parameters.bundle = str(tmp_path)
    assert host.wait(lambda: panel.model.state.problem, PATIENCE)
    assert "There is no model" in panel.model.state.text


def test_works_without_a_main_window():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from host.host import Host

    with Host(main_window=False) as host:
        representation = host.load(MODULE).widgetRepresentation()
        representation.enter()
        representation.exit()
        representation.enter()
        slicer.mrmlScene.Clear()
        host.turn()
        assert representation.self().panel.parameters is not None
        assert not host.errors


def test_nothing_shows_before_the_exam(host, panel):
    from PediatricLiverDxLib import exam_views

    assert panel.application.layout() != exam_views.LAYOUT_ID
    assert not panel.ui.gateFrame.isVisible()
    assert not panel.ui.progressBar.isVisible()
    assert not panel.ui.openReportButton.isEnabled()


def test_says_how_phases_were_recognised_and_how_they_fit(host, diagnosed):
    assert diagnosed.ui.apStatus.text.startswith("From volume name")
    assert "·" in diagnosed.ui.apStatus.text
    assert "reference phase" in diagnosed.ui.pvpStatus.text


def test_a_phase_that_is_not_certain_says_so(host, panel, monkeypatch):
    from PediatricLiverDxLib import exam_input

    volume = slicer.util.addVolumeFromArray(np.zeros((12, 8, 8), np.int16), name="series 5")
    guess = exam_input.PhaseAssignment(volume, "image brightness", False)

    def guessing(volumes, tags_of):
        yield
        return {"DP": guess}, ["series 5: taken as delayed."]

    monkeypatch.setattr(exam_input, "assigning_phases", guessing)
    panel.ui.assignButton.click()
    assert host.wait(lambda: panel.ui.dpStatus.text, PATIENCE)
    assert panel.ui.dpStatus.text == "From image brightness, not certain"
    assert panel.ui.phasesNote.text == "series 5: taken as delayed."


def test_a_phase_chosen_by_hand_says_so(host, diagnosed):
    diagnosed.ui.dpSelector.setCurrentNode(diagnosed.volumes()["PC"])
    host.turn()
    assert diagnosed.ui.dpStatus.text == "Chosen by you · not diagnosed with it yet"
    assert _composite("DP").GetBackgroundVolumeID() == diagnosed.volumes()["PC"].GetID()


def test_zoom_and_place_stay_while_lesions_are_corrected(host, diagnosed):
    view = slicer.mrmlScene.GetSingletonNode("PediatricLiverDxAP", "vtkMRMLSliceNode")
    view.SetFieldOfView(50, 50, 1)
    move(diagnosed.session.exam.rois()[0])
    diagnosed.ui.runButton.click()
    ended(host, diagnosed)
    assert view.GetFieldOfView()[0] == pytest.approx(50)


def test_an_opened_scene_keeps_its_views(host, diagnosed, tmp_path):
    view = slicer.mrmlScene.GetSingletonNode("PediatricLiverDxAP", "vtkMRMLSliceNode")
    width, height, depth = view.GetFieldOfView()
    view.SetFieldOfView(width / 3, height / 3, depth)
    view.SetSliceOffset(70)
    host.turn()
    slicer.util.saveScene(str(tmp_path / "exam.mrb"))
    slicer.mrmlScene.Clear()
    host.turn()
    slicer.util.loadScene(str(tmp_path / "exam.mrb"))
    host.turn(0.1)
    view = slicer.mrmlScene.GetSingletonNode("PediatricLiverDxAP", "vtkMRMLSliceNode")
    assert view.GetSliceOffset() == pytest.approx(70)
    assert view.GetFieldOfView()[0] == pytest.approx(width / 3, rel=0.1)
    assert _composite("AP").GetBackgroundVolumeID() == diagnosed.volumes()["AP"].GetID()
    assert diagnosed.session.exam.rois()


def test_the_warning_stands_beside_the_lesions_too(host, panel, diagnosed):
    assert not diagnosed.ui.lesionWarning.isVisible()  # the bundle of these tests does not say what it was trained on
    diagnosed.parameters.bundle = ""
    assert host.wait(lambda: panel.model.state.is_phantom_only, PATIENCE)
    host.turn()
    assert diagnosed.ui.lesionWarning.isVisible()


def _composite(phase: str):
    return slicer.mrmlScene.GetSingletonNode(f"PediatricLiverDx{phase}", "vtkMRMLSliceCompositeNode")


def test_the_button_is_cancel_while_it_runs(host, exam):
    exam.ui.runButton.click()
    assert exam.ui.runButton.text == "Cancel"
    exam.ui.runButton.click()
    ended(host, exam)
    assert "Cancelled" in exam.ui.statusLabel.text
    assert exam.ui.runButton.text == "Diagnose"


def test_progress_touches_only_what_changed(host, exam, monkeypatch):
    section, session = exam.diagnosing, exam.session
    section.refresh_progress()
    touched: list[str] = []
    for widget, name in ((exam.ui.progressBar, "setValue"), (exam.ui.statusLabel, "setText")):
        monkeypatch.setattr(widget, name, lambda *_, name=name: touched.append(name), raising=False)
    session.fraction = 0.5
    section.refresh_progress()
    session.fraction = 0.501
    section.refresh_progress()
    assert touched == ["setValue"]


def test_a_moved_roi_is_changed_at_once_and_the_first_one_when_it_is_back(host, diagnosed):
    roi = diagnosed.session.exam.rois()[0]
    move(roi)
    host.turn()
    assert state_of(diagnosed) == "Changed"
    assert "before it was changed" in diagnosed.ui.camLabel.text
    move(roi, -5.0)
    host.turn()
    assert state_of(diagnosed) == "Up to\ndate"


def test_typing_a_roi_s_place_updates_automatically_after_a_while(host, diagnosed):
    diagnosed.ui.automaticCheckBox.setChecked(True)
    host.turn()
    before = diagnosed.session.results
    move(diagnosed.session.exam.rois()[0])
    assert host.wait(lambda: diagnosed.session.results > before, PATIENCE)
    host.turn()
    assert state_of(diagnosed) == "Up to\ndate"
    host.turn(1.0)
    assert diagnosed.session.results == before + 1


def test_an_unticked_lesion_is_left_out(host, diagnosed):
    from host import qt

    diagnosed.ui.addRoiButton.click()
    host.turn()
    diagnosed.ui.lesionTable.item(0, 0).setCheckState(qt.Qt.Unchecked)
    host.turn()
    _first, second = diagnosed.session.exam.rois()
    assert diagnosed.session.exam.included_rois() == [second]


def test_a_new_roi_lies_where_the_views_look_and_is_chosen(host, diagnosed):
    diagnosed.ui.addRoiButton.click()
    host.turn()
    roi = diagnosed.session.exam.rois()[-1]
    assert diagnosed.selected_lesion() == (roi, None)
    assert state_of(diagnosed, 1) == "New"
    assert diagnosed.ui.camLabel.text == "This lesion was not diagnosed yet."


def test_removing_a_roi_takes_its_row_and_nodes_away(host, diagnosed):
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode")
    diagnosed.ui.removeRoiButton.click()
    host.turn()
    assert diagnosed.ui.lesionTable.rowCount == len(diagnosed.session.exam.rois())
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == before - 2


def test_a_roi_removed_elsewhere_takes_its_row_and_nodes_away(host, diagnosed):
    slicer.mrmlScene.RemoveNode(diagnosed.session.exam.rois()[0])
    host.turn(0.05)
    assert diagnosed.ui.lesionTable.rowCount == len(diagnosed.session.exam.rois())
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 2 * len(diagnosed.session.exam.rois())


def test_a_volume_removed_while_it_runs_ends_the_run(host, exam):
    exam.ui.runButton.click()
    slicer.mrmlScene.RemoveNode(exam.volumes()["AP"])
    host.turn()
    assert not exam.session.is_busy
    assert "arterial volume was removed" in exam.ui.statusLabel.text
    assert set(exam.volumes()) == {"PC", "PVP", "DP"}
    exam.ui.runButton.click()
    ended(host, exam)
    assert not exam.session.status.problem


def test_leaving_while_it_runs_shows_the_result_on_coming_back(host, exam):
    from PediatricLiverDxLib import exam_views

    exam.ui.runButton.click()
    slicer.util.selectModule("")
    assert exam.application.layout() != exam_views.LAYOUT_ID
    ended(host, exam)
    slicer.util.selectModule("PediatricLiverDx")
    host.turn()
    assert exam.application.layout() == exam_views.LAYOUT_ID
    assert state_of(exam) == "Up to\ndate"
    assert exam_views.overlay(slicer.mrmlScene) is not None


def test_a_layout_that_the_user_chose_stays_on_leaving(host, exam):
    exam.application.set_layout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    slicer.util.selectModule("")
    assert exam.application.layout() == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_reloading_while_it_runs_ends_the_worker_and_works_on(host, exam):
    exam.ui.runButton.click()
    worker = slicer.util.getModuleWidget("PediatricLiverDx").logic.worker
    slicer.util.reloadScriptedModule("PediatricLiverDx")
    host.turn(0.1)
    assert not worker.is_running
    new = slicer.util.getModuleWidget("PediatricLiverDx").panel
    assert new is not exam
    assert len(new.volumes()) == 4
    new.ui.runButton.click()
    ended(host, new)
    assert not new.session.status.problem, new.session.status.text


def test_a_declined_installation_is_a_sentence(host, exam, monkeypatch):
    monkeypatch.setattr(type(exam.installation), "is_complete", lambda self: False)
    monkeypatch.setattr(type(exam.installation), "ask_and_install", lambda self, ask: False)
    exam.ui.runButton.click()
    host.turn()
    assert exam.ui.statusLabel.text.startswith("⚠ Nothing was installed")
    assert exam.ui.runButton.isEnabled()


def test_results_that_cannot_be_saved_are_a_sentence(host, diagnosed, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    diagnosed.report.save(tmp_path / "file")
    ended(host, diagnosed)
    assert diagnosed.session.status.problem
    assert "expected a folder" in diagnosed.ui.statusLabel.text
    assert diagnosed.ui.savedLabel.text == "Not saved yet."


def test_saved_results_that_changed_since_are_told(host, diagnosed, tmp_path):
    diagnosed.report.save(tmp_path / "results")
    ended(host, diagnosed)
    assert diagnosed.ui.savedLabel.text == f"Saved in {tmp_path / 'results'}."
    move(diagnosed.session.exam.rois()[0])
    diagnosed.ui.runButton.click()
    ended(host, diagnosed)
    assert "changed since" in diagnosed.ui.savedLabel.text


def test_the_report_opens_without_being_saved_and_is_written_once(host, diagnosed, monkeypatch):
    opened = []
    monkeypatch.setattr(type(diagnosed.application), "open", lambda self, path: opened.append(path) or True)
    diagnosed.ui.openReportButton.click()
    ended(host, diagnosed)
    assert opened[0].is_file()
    diagnosed.ui.openReportButton.click()
    assert len(opened) == 2
    assert not diagnosed.session.is_busy


def test_closing_ends_the_worker_and_takes_its_folder_along(tiny_study):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from host.host import Host

    with Host() as host:
        host.load(MODULE)
        slicer.util.selectModule("PediatricLiverDx")
        widget = slicer.util.getModuleWidget("PediatricLiverDx")
        slicer.util.loadVolume(str(tiny_study / "PVP.nrrd"), {"name": "PVP"})
        widget.ui.assignButton.click()
        widget.ui.runButton.click()
        worker, folders = widget.logic.worker, []
        worker.when_ready(folders.append)
        assert host.wait(lambda: folders, PATIENCE)
    assert not worker.is_running
    assert not folders[0].exists()


def test_dicom_values_come_from_the_database_that_loaded_the_volume(host, panel):
    class Database:
        def fileForInstance(self, uid: str) -> str:
            return {"1.2.3": "/somewhere/1.dcm"}.get(uid, "")

        def fileValue(self, file: str, tag: str) -> str:
            return {"0008,103e": "portal venous ", "0018,0060": ""}.get(tag, "")

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert panel.application.tags_of(volume) == {}
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    assert panel.application.tags_of(volume) == {}
    slicer.dicomDatabase = Database()
    assert panel.application.tags_of(volume) == {"SeriesDescription": "portal venous"}
    volume.SetAttribute("DICOM.instanceUIDs", "9.9")
    assert panel.application.tags_of(volume) == {}


def test_every_value_that_recognition_asks_for_is_read():
    from PediatricLiverDxLib.exam_input import TAGS
    from PediatricLiverDxLib.panel.application import DICOM_TAGS

    assert set(TAGS) <= set(DICOM_TAGS)


def test_another_scene_is_left_alone_while_another_module_is_used(host, panel):
    slicer.util.selectModule("")
    slicer.mrmlScene.Clear()
    host.turn()
    assert panel.parameters is None
    slicer.util.selectModule("PediatricLiverDx")
    assert panel.parameters is not None


def test_the_logic_diagnoses_without_the_panel(host, tiny_study, tiny_bundle):
    logic = sys.modules["PediatricLiverDx"].PediatricLiverDxLogic()
    parameters = logic.getParameterNode()
    parameters.pvp = slicer.util.loadVolume(str(tiny_study / "PVP.nrrd"))
    parameters.pc = slicer.util.loadVolume(str(tiny_study / "PC.nrrd"))
    parameters.bundle = str(tiny_bundle)
    logic.diagnose()
    assert host.wait(lambda: not logic.session.is_busy, PATIENCE)
    assert logic.exam.diagnosis().lesions
    logic.close()
    assert not logic.worker.is_running


def test_another_exam_in_the_selectors_takes_the_first_one_s_result_away_until_it_is_back(host, diagnosed, tiny_study):
    first, others = diagnosed.volumes(), {}
    for phase in first:
        others[phase] = slicer.util.loadVolume(str(tiny_study / f"{phase}.nrrd"), {"name": f"other {phase}"})
    diagnosed.ui.dpSelector.setCurrentNode(others["DP"])
    host.turn()
    assert state_of(diagnosed) == "Changed"
    assert diagnosed.ui.dpStatus.text == "Chosen by you · not diagnosed with it yet"
    assert not diagnosed.ui.openReportButton.isEnabled()
    assert diagnosed.ui.savedLabel.text.startswith("Diagnose first: the phases or the model changed.")
    for phase in ("PC", "AP", "PVP"):
        getattr(diagnosed.ui, f"{phase.lower()}Selector").setCurrentNode(others[phase])
    host.turn()
    assert diagnosed.ui.lesionTable.rowCount == 0
    assert diagnosed.diagnosis() is None
    assert not diagnosed.ui.gateFrame.isVisible()
    assert not diagnosed.ui.statusLabel.text
    assert _composite("PC").GetBackgroundVolumeID() == others["PC"].GetID()
    for phase in first:
        getattr(diagnosed.ui, f"{phase.lower()}Selector").setCurrentNode(first[phase])
    host.turn()
    assert state_of(diagnosed) == "Up to\ndate"
    assert diagnosed.ui.gateFrame.isVisible()


def test_another_model_leaves_the_rows_changed(host, diagnosed, tiny_bundle):
    diagnosed.parameters.bundle = ""
    host.turn(0.05)
    assert state_of(diagnosed) == "Changed"
    diagnosed.parameters.bundle = str(tiny_bundle)
    host.turn(0.05)
    assert state_of(diagnosed) == "Up to\ndate"


def test_voxels_written_into_are_changed(host, diagnosed):
    slicer.util.arrayFromVolume(diagnosed.volumes()["AP"])[:] += 1
    slicer.util.arrayFromVolumeModified(diagnosed.volumes()["AP"])
    host.turn()
    assert state_of(diagnosed) == "Changed"


@pytest.mark.parametrize("while_it_runs", [False, True])
def test_a_removed_lesion_is_not_told_as_none_found(host, diagnosed, while_it_runs):
    if while_it_runs:
        move(diagnosed.session.exam.rois()[0])
        diagnosed.ui.runButton.click()
    for roi in diagnosed.session.exam.rois():
        slicer.mrmlScene.RemoveNode(roi)
    ended(host, diagnosed)
    assert diagnosed.ui.statusLabel.text == "The lesion was removed. Diagnose looks anew."
    assert diagnosed.ui.noLesionLabel.text.startswith("Diagnose looks for lesions")
    assert not diagnosed.ui.gateFrame.isVisible()
    assert not diagnosed.ui.openReportButton.isEnabled()


def test_a_changed_box_is_not_reported_before_it_is_diagnosed(host, diagnosed):
    assert diagnosed.ui.openReportButton.isEnabled()
    move(diagnosed.session.exam.rois()[0])
    host.turn()
    assert not diagnosed.ui.openReportButton.isEnabled()
    assert not diagnosed.ui.saveResultsButton.isEnabled()
    assert diagnosed.ui.savedLabel.text.startswith("Diagnose first: a box was changed.")


def test_what_was_said_goes_with_the_scene(host, diagnosed):
    assert diagnosed.ui.statusLabel.text
    slicer.mrmlScene.Clear()
    host.turn()
    assert not diagnosed.ui.statusLabel.text


def test_an_error_about_a_box_has_its_name_and_goes_when_it_is_moved(host, diagnosed):
    roi = diagnosed.session.exam.rois()[0]
    move(roi, 5000)
    diagnosed.ui.runButton.click()
    ended(host, diagnosed)
    assert diagnosed.session.status.problem
    assert diagnosed.ui.statusLabel.text.startswith(f"⚠ {roi.GetName()} (centre")
    move(roi, -5000)
    host.turn()
    assert not diagnosed.session.status.problem


def test_a_box_removed_under_the_mouse_leaves_updates_automatic(host, diagnosed):
    diagnosed.ui.addRoiButton.click()
    host.turn()
    first, second = diagnosed.session.exam.rois()
    second.InvokeEvent(second.PointStartInteractionEvent)
    slicer.mrmlScene.RemoveNode(second)
    host.turn(0.05)
    diagnosed.ui.automaticCheckBox.setChecked(True)
    host.turn()
    before = diagnosed.session.results
    move(first)
    assert host.wait(lambda: diagnosed.session.results > before, PATIENCE)


def test_a_defect_is_logged_without_the_text_of_its_error(host, exam, monkeypatch, caplog):
    def fails(*arguments):
        raise RuntimeError("/data/doe/Doe^Jane.nrrd")

    monkeypatch.setattr(exam.session, "_refuse_unusable", fails)
    exam.ui.runButton.click()
    host.turn()
    assert "RuntimeError" in exam.session.status.text
    assert "RuntimeError" in caplog.text and "in fails" in caplog.text
    assert "Doe" not in caplog.text


def test_the_self_test_knows_which_layout_comes_back_when_an_exam_is_shown_already(host, exam):
    from PediatricLiverDxLib import exam_views
    from PediatricLiverDxLib.panel.self_test import Story

    assert exam.application.layout() == exam_views.LAYOUT_ID
    story = Story(None)
    story._open_module()
    assert exam.application.layout() == exam_views.LAYOUT_ID
    story.widget.exit()
    assert exam.application.layout() == story._layout_before != exam_views.LAYOUT_ID
    story._folder.rmdir()


LEGEND = "vtkMRMLColorLegendDisplayNode"


def wait_for_map(host, panel, of: str):
    roi = panel.selected_lesion()[0]
    assert host.wait(lambda: panel.session.exam.cam_node(roi, of) is not None and not panel.session.is_busy, PATIENCE)
    host.turn(0.05)
    return panel.session.exam.cam_node(roi, of)


def test_the_heat_map_says_for_what_it_is_and_can_be_had_for_another_class(host, diagnosed):
    from PediatricLiverDxLib import exam_views, wording
    from PediatricLiverDxLib.node_references import of_class
    from PediatricLiverDxLib.vocabulary import OUTCOMES

    combo, (roi, lesion) = diagnosed.ui.mapComboBox, diagnosed.selected_lesion()
    side = wording.side_of(lesion)
    assert combo.itemText(0) == f"As diagnosed: {side}"
    assert wording.noun(side) in diagnosed.ui.camLabel.text
    decided = exam_views.overlay(slicer.mrmlScene)
    for of in (wording.opposite(side), "HB"):
        results = diagnosed.session.results
        combo.setCurrentIndex(OUTCOMES.index(of) + 1)
        other = wait_for_map(host, diagnosed, of)
        assert exam_views.overlay(slicer.mrmlScene) is other is not decided
        assert wording.noun(of) in diagnosed.ui.camLabel.text and wording.chance(lesion, of) in diagnosed.ui.camLabel.text
        title = f"Heat map\n{wording.outcome(of)}"
        assert host.wait(lambda t=title: [one.GetTitleText() for one in of_class(slicer.mrmlScene, LEGEND)] == [t], PATIENCE)
        # the report and the state of the lesions have nothing to do with it
        assert diagnosed.session.results == results and diagnosed.session.exam.row_of(roi).fresh == "fresh"
    # it follows the result
    move(roi)
    diagnosed.ui.runButton.click()
    ended(host, diagnosed)
    other = wait_for_map(host, diagnosed, "HB")
    assert exam_views.overlay(slicer.mrmlScene) is other
    combo.setCurrentIndex(0)
    host.turn(0.05)
    assert exam_views.overlay(slicer.mrmlScene) is decided and diagnosed.parameters.camFor == ""


def test_a_map_that_cannot_be_had_leaves_the_one_of_the_result(host, diagnosed):
    from PediatricLiverDxLib import exam_views

    decided = exam_views.overlay(slicer.mrmlScene)
    diagnosed.session.stop()  # the next one has to read all anew
    diagnosed.ui.mapComboBox.setCurrentIndex(3)
    host.wait(lambda: diagnosed.session.fraction > 0, PATIENCE)
    diagnosed.ui.runButton.click()
    ended(host, diagnosed)
    assert diagnosed.parameters.camFor == "" and diagnosed.ui.mapComboBox.currentIndex == 0
    assert exam_views.overlay(slicer.mrmlScene) is decided and not diagnosed.session.status.problem
    # of other phases than those of the result it would not be the map of the result
    diagnosed.parameters.dp = None
    host.turn(0.05)
    diagnosed.ui.mapComboBox.setCurrentIndex(3)
    host.turn(0.05)
    assert not diagnosed.session.is_busy and diagnosed.parameters.camFor == ""
    assert "Diagnose again" in diagnosed.session.status.text


def test_a_box_that_was_moved_by_mistake_goes_back(host, diagnosed):
    (roi,) = diagnosed.session.exam.rois()[:1]
    assert not diagnosed.ui.undoButton.isEnabled()
    roi.InvokeEvent(roi.PointStartInteractionEvent)
    move(roi)
    host.turn(0.05)
    assert not diagnosed.ui.undoButton.isEnabled(), "it is still being dragged"
    roi.InvokeEvent(roi.PointEndInteractionEvent)
    host.turn(0.05)
    assert state_of(diagnosed) == "Changed"
    diagnosed.ui.undoButton.click()
    host.turn(0.05)
    assert state_of(diagnosed).startswith("Up") and not diagnosed.ui.undoButton.isEnabled()


def test_a_box_that_was_added_by_mistake_goes_away_again(host, diagnosed):
    rois = list(diagnosed.session.exam.rois())
    diagnosed.ui.addRoiButton.click()
    host.turn(0.05)
    assert diagnosed.ui.lesionTable.rowCount == len(rois) + 1 and "away again" in diagnosed.ui.undoButton.toolTip
    from PediatricLiverDxLib.exam_views import LEGEND_ATTRIBUTE

    legends = [node for node in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode") if node.GetAttribute(LEGEND_ATTRIBUTE)]
    assert legends and not any(node.GetVisibility() for node in legends), "a box without a result has no map to explain"
    diagnosed.ui.undoButton.click()
    host.turn(0.05)
    assert list(diagnosed.session.exam.rois()) == rois and diagnosed.ui.lesionTable.rowCount == len(rois)
    assert not diagnosed.ui.undoButton.isEnabled()


def test_a_lesion_that_was_removed_by_mistake_comes_back_with_its_result(host, diagnosed):
    table = diagnosed.ui.lesionTable
    before = [table.item(row, column).text() for row in range(table.rowCount) for column in range(3)]
    diagnosed.ui.removeRoiButton.click()
    host.turn(0.05)
    assert "Undo brings it back" in diagnosed.ui.statusLabel.text
    diagnosed.ui.undoButton.click()
    host.turn(0.05)
    assert [table.item(row, column).text() for row in range(table.rowCount) for column in range(3)] == before
    assert diagnosed.ui.openReportButton.isEnabled() and not diagnosed.ui.undoButton.isEnabled()


def test_the_first_result_is_in_sight_in_a_low_window(host, exam):
    from PediatricLiverDxLib.panel.sight import is_in_sight

    slicer.util.mainWindow().resize(1000, 620)
    host.turn(0.05)
    exam.ui.runButton.click()
    ended(host, exam)
    assert host.wait(lambda: is_in_sight(exam.ui.lesionTable), 10)
    assert exam.ui.phasesSection.collapsed
    # and stays as the user leaves it
    exam.ui.phasesSection.setChecked(True)
    exam.ui.runButton.click()
    ended(host, exam)
    host.turn(0.1)
    assert not exam.ui.phasesSection.collapsed


def test_a_high_window_keeps_the_phases_open(host, exam):
    slicer.util.mainWindow().resize(1000, 1300)
    host.turn(0.05)
    exam.ui.runButton.click()
    ended(host, exam)
    host.turn(0.1)
    assert not exam.ui.phasesSection.collapsed


def test_the_path_of_the_report_can_be_copied(host, diagnosed):
    diagnosed.application.open = lambda path: True  # the system says so whether or not anything opens
    diagnosed.ui.openReportButton.click()
    ended(host, diagnosed)
    host.turn(0.05)
    assert "report.html" in diagnosed.ui.savedLabel.text
    import qt

    assert diagnosed.ui.savedLabel.textInteractionFlags & qt.Qt.TextSelectableByMouse


def test_a_box_moved_while_its_result_comes_in_is_diagnosed_again(host, diagnosed):
    from PediatricLiverDxLib.panel.run import Step

    diagnosed.ui.automaticCheckBox.setChecked(True)
    host.turn(0.05)
    roi = diagnosed.session.exam.rois()[0]
    move(roi)
    diagnosed.ui.runButton.click()
    results = diagnosed.session.results
    assert host.wait(lambda: diagnosed.session.step is Step.SHOWING, PATIENCE)
    move(roi)
    assert host.wait(lambda: diagnosed.session.results >= results + 2, PATIENCE)
    ended(host, diagnosed)
    assert state_of(diagnosed).startswith("Up")


def test_phases_without_names_are_found_out_while_the_window_stays_free(host, panel, tiny_study):
    files = zip(PHASES, "wxyz", strict=True)
    volumes = [slicer.util.loadVolume(str(tiny_study / f"{phase}.nrrd"), {"name": name}) for phase, name in files]
    panel.ui.assignButton.click()
    assert not panel.ui.assignButton.isEnabled() and "looking at the images" in panel.ui.phasesNote.text
    assert host.wait(lambda: panel.ui.assignButton.isEnabled(), PATIENCE)
    assert "looking at" not in panel.ui.phasesNote.text
    # a volume that goes meanwhile takes nothing along
    panel.ui.assignButton.click()
    slicer.mrmlScene.RemoveNode(volumes[0])
    assert host.wait(lambda: panel.ui.assignButton.isEnabled(), PATIENCE)
    panel.ui.assignButton.click()
    slicer.mrmlScene.Clear()
    host.turn(0.05)
    assert panel.phases._assigning is None and panel.ui.assignButton.isEnabled()


def test_while_a_result_is_shown_no_lesion_can_be_removed(host, diagnosed):
    from PediatricLiverDxLib.panel.run import Step

    diagnosed.add_roi()
    host.turn(0.05)
    rois = diagnosed.session.exam.rois()
    diagnosed.ui.runButton.click()
    assert host.wait(lambda: diagnosed.session.step is Step.SHOWING, PATIENCE)
    assert not diagnosed.ui.removeRoiButton.isEnabled() and not diagnosed.ui.undoButton.isEnabled()
    diagnosed.lesions._remove()
    diagnosed.lesions._undo()
    ended(host, diagnosed)
    assert diagnosed.session.exam.rois() == rois and diagnosed.ui.removeRoiButton.isEnabled()


@pytest.mark.parametrize("how_many", [1, 2])
def test_a_roi_removed_elsewhere_while_a_result_is_shown_takes_only_its_own(host, diagnosed, how_many):
    from PediatricLiverDxLib.panel.run import Step

    diagnosed.add_roi()
    host.turn(0.05)
    rois = diagnosed.session.exam.rois()
    assert len(rois) == 2
    diagnosed.ui.runButton.click()
    assert host.wait(lambda: diagnosed.session.step is Step.SHOWING, PATIENCE)
    for roi in rois[:how_many]:
        slicer.mrmlScene.RemoveNode(roi)
    ended(host, diagnosed)
    if how_many == 1:
        assert [diagnosed.session.exam.row_of(roi).fresh for roi in diagnosed.session.exam.rois()] == ["fresh"]
    else:
        assert diagnosed.diagnosis() is None
        assert diagnosed.session.status.text == "The lesion was removed. Diagnose looks anew."


def test_a_map_of_the_decided_side_that_was_removed_is_computed_once(host, diagnosed, monkeypatch):
    from PediatricLiverDxLib import wording
    from PediatricLiverDxLib.vocabulary import OUTCOMES

    runs, of_session = [], diagnosed.session.map
    monkeypatch.setattr(diagnosed.session, "map", lambda *given, **options: (runs.append(1), of_session(*given, **options)))
    roi, lesion = diagnosed.selected_lesion()
    side = wording.side_of(lesion)
    diagnosed.ui.mapComboBox.setCurrentIndex(OUTCOMES.index(side) + 1)
    host.turn(0.05)
    slicer.mrmlScene.RemoveNode(diagnosed.session.exam.cam_node(roi))
    diagnosed.refresh_soon()
    assert host.wait(lambda: runs, PATIENCE)
    wait_for_map(host, diagnosed, side)
    assert not host.wait(lambda: len(runs) > 1, 1)


def test_a_roi_that_is_not_drawn_is_not_said_to_come_back(host, diagnosed):
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    diagnosed.session.exam.adopt_roi(roi)
    diagnosed.parameters.selectedLesion = roi.GetID()
    host.turn(0.05)
    name = roi.GetName()
    diagnosed.ui.removeRoiButton.click()
    host.turn(0.05)
    assert diagnosed.session.status.text == f"{name} was removed." and not diagnosed.ui.undoButton.isEnabled()
