"""What runs for the exam, with a worker that answers when the test says so: every way to end leaves a sentence and a usable session."""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("PySide6")
slicer = pytest.importorskip("slicer")


@pytest.fixture(autouse=True)
def host():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from host.host import Host

    with Host() as host:
        yield host


class Worker:
    """Answer nothing by itself."""

    def __init__(self, folder) -> None:
        self.folder, self.is_ready, self.is_running = folder, True, True
        self.requests, self.cancelled, self.waiting, self.abandoned = [], [], [], 0
        folder.mkdir(exist_ok=True)

    def start(self) -> None:
        pass

    def when_ready(self, call) -> None:
        if self.is_ready:
            call(self.folder)
        else:
            self.waiting.append(call)

    def request(self, name, body, *, on_progress, on_result, on_error) -> int:
        self.requests.append(SimpleNamespace(name=name, body=body, progress=on_progress, result=on_result, error=on_error))
        return len(self.requests)

    def cancel(self, request_id) -> None:
        self.cancelled.append(request_id)

    def abandon_start(self) -> None:
        self.waiting.clear()
        self.abandoned += 1

    def stop(self) -> None:
        pass


class Loop:
    """Do what was put off, in order."""

    def __init__(self) -> None:
        self.due = deque()

    def later(self, milliseconds, call) -> None:
        self.due.append(call)

    def run(self) -> None:
        while self.due:
            self.due.popleft()()


@pytest.fixture
def scene():
    from PediatricLiverDxLib.scene import new_scene

    scene = new_scene()
    yield scene
    scene.Clear(1)


@pytest.fixture
def exam():
    from example_diagnosis import example_aligned, example_diagnosis

    aligned = example_aligned((48, 40, 12))
    return aligned, example_diagnosis(aligned, n_lesions=2)


@pytest.fixture
def volumes(scene):
    return {phase: _volume(scene, phase, seed) for seed, phase in enumerate(("AP", "PVP"))}


@pytest.fixture
def session(scene, tmp_path, volumes):
    from PediatricLiverDxLib.exam_nodes import ExamNodes
    from PediatricLiverDxLib.panel.exam_session import ExamSession

    loop, worker = Loop(), Worker(tmp_path / "worker")
    installation = SimpleNamespace(is_complete=lambda: True, ask_and_install=lambda ask: ask("20 MB?"))
    session = ExamSession(worker, installation, loop.later, lambda question: False)
    session.exam = ExamNodes.of(scene)
    session.exam.set_phases(volumes)
    session.loop, session.worker, session.installation = loop, worker, installation
    return session


def _volume(scene, name: str, seed: int):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    voxels = np.random.default_rng(seed).normal(50, 20, (12, 40, 48)).astype(np.int16)
    from PediatricLiverDxLib.volume_nodes import fill_volume

    fill_volume(node, voxels, np.diag([6.0, 6.0, 12.0, 1.0]))
    return node


def _answer(session, exam, lesions: int = 2) -> None:
    """Answer the last request as the worker does: files first, then the document."""
    from dataclasses import replace

    from PediatricLiverDxLib.outputs import write_outputs

    aligned, diagnosis = exam
    request = session.worker.requests[-1]
    out = Path(request.body["output"])
    out.mkdir(parents=True, exist_ok=True)
    diagnosis = write_outputs(replace(diagnosis, lesions=diagnosis.lesions[:lesions]), aligned, out, scene=False, report=False)
    names = dict(zip([lesion.id for lesion in diagnosis.lesions], [roi["id"] for roi in request.body["rois"] or ()], strict=False))
    request.result({"diagnosis": diagnosis.to_dict(), "rois": names, "files": [], "warm": {}})
    session.loop.run()


def _run(session, volumes, **options) -> None:
    session.diagnose(volumes, **options)
    session.loop.run()


def test_without_a_phase_it_says_what_to_do(session):
    session.diagnose({})
    assert session.status.problem
    assert "at least one phase" in session.status.text
    assert not session.is_busy


def test_a_volume_twice_is_refused(session, volumes):
    session.diagnose({"AP": volumes["AP"], "PVP": volumes["AP"]})
    assert session.status.text == "The arterial and the portal venous phase are the same volume; choose another for one of them."


def test_first_run_looks_for_lesions_and_shows_them(session, volumes, exam):
    done = []
    _run(session, volumes, on_done=done.append)
    assert session.worker.requests[0].body["rois"] is None
    _answer(session, exam)
    assert not session.status.problem, session.status.text
    assert [session.exam.row_of(roi).fresh for roi in session.exam.rois()] == ["fresh", "fresh"]
    assert session.results == 1
    assert done == [session.worker.folder / "result"]


def test_a_second_run_sends_the_rois_that_there_are(session, volumes, exam):
    _run(session, volumes)
    _answer(session, exam)
    first, second = session.exam.rois()
    session.exam.set_included(first, False)
    _run(session, volumes)
    assert [roi["id"] for roi in session.worker.requests[-1].body["rois"]] == [second.GetID()]


def test_with_every_lesion_left_out_it_says_so(session, volumes):
    session.exam.set_included(session.exam.add_roi((0, 0, 0)), False)
    _run(session, volumes)
    assert session.status.problem
    assert not session.worker.requests


def test_a_second_click_starts_nothing(session, volumes):
    _run(session, volumes)
    _run(session, volumes)
    assert len(session.worker.requests) == 1


def test_volumes_are_handed_over_once_and_again_when_they_change(session, volumes, exam):
    _run(session, volumes)
    _answer(session, exam)
    files = {phase: session.worker.folder / f"{phase}.nrrd" for phase in volumes}
    before = {phase: path.stat().st_mtime_ns for phase, path in files.items()}
    _run(session, volumes)
    _answer(session, exam)
    assert {phase: path.stat().st_mtime_ns for phase, path in files.items()} == before
    slicer.util.arrayFromVolume(volumes["AP"])[:] = 7
    slicer.util.arrayFromVolumeModified(volumes["AP"])
    _run(session, volumes)
    after = {phase: path.stat().st_mtime_ns for phase, path in files.items()}
    assert after["AP"] != before["AP"]
    assert after["PVP"] == before["PVP"]


def test_each_phase_is_handed_over_in_a_turn_of_its_own(session, volumes):
    session.diagnose(volumes)
    turns = 0
    while session.loop.due:
        assert not session.worker.requests
        session.loop.due.popleft()()
        turns += 1
    assert turns >= len(volumes)
    assert session.worker.requests


def test_a_full_disk_is_one_sentence_and_the_next_run_works(session, volumes, monkeypatch):
    def full(path, mode):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        _run(session, volumes)
    assert "No space left on device" in session.status.text
    assert session.status.problem
    assert not session.is_busy
    _run(session, volumes)
    assert session.worker.requests


def test_a_declined_installation_is_one_sentence(session, volumes):
    session.installation.is_complete = lambda: False
    _run(session, volumes)
    assert session.status.text.startswith("Nothing was installed")
    assert not session.worker.requests


def test_a_worker_that_ends_before_it_is_ready_is_one_sentence(session, volumes):
    session.worker.is_ready = False
    _run(session, volumes)
    assert session.is_busy
    session.worker_stopped("The computation ended.")
    assert session.status.text == "The computation ended."
    assert not session.is_busy


def test_an_error_of_the_worker_is_shown_and_the_result_stays(session, volumes, exam):
    _run(session, volumes)
    _answer(session, exam)
    _run(session, volumes)
    session.worker.requests[-1].error("input", "The bundle is damaged.")
    assert session.status.problem
    assert session.status.text == "The bundle is damaged."
    assert session.exam.diagnosis() is not None


def test_a_run_whose_worker_is_not_ready_can_be_cancelled_and_the_next_one_starts_another(session, volumes):
    session.worker.is_ready = False
    _run(session, volumes)
    session.cancel()
    assert session.worker.abandoned == 1 and not session.is_busy
    session.worker.is_ready = True
    _run(session, volumes)
    assert len(session.worker.requests) == 1


def test_cancel_changes_nothing(session, volumes):
    _run(session, volumes)
    session.cancel()
    assert session.worker.cancelled == [1]
    session.worker.requests[0].progress("align", 0.5, "Aligning")
    assert session.status.text == "Cancelling"
    session.worker.requests[0].error("cancelled", "Cancelled.")
    assert session.status.text == "Cancelled. Nothing was changed."
    assert not session.status.problem


def test_cancel_while_volumes_are_handed_over_sends_nothing(session, volumes):
    session.diagnose(volumes)
    session.cancel()
    session.loop.run()
    assert not session.worker.requests
    assert not session.is_busy


def test_a_removed_volume_ends_the_run_and_its_answer_is_not_shown(session, volumes, exam):
    _run(session, volumes)
    session.volume_removed(volumes["AP"])
    assert session.status.text == "The arterial volume was removed, so the run was stopped."
    assert session.worker.cancelled == [1]
    _answer(session, exam)
    assert session.exam.diagnosis() is None


def test_a_roi_removed_meanwhile_takes_its_result_with_it(session, volumes, exam):
    _run(session, volumes)
    _answer(session, exam)
    first, second = session.exam.rois()
    _run(session, volumes)
    session.exam.remove_roi(first)
    _answer(session, exam)
    assert session.exam.rois() == [second]
    assert len(session.exam.diagnosis().lesions) == 1


def test_a_roi_moved_meanwhile_is_stale(session, volumes, exam):
    _run(session, volumes)
    _answer(session, exam)
    roi = session.exam.rois()[0]
    _run(session, volumes)
    roi.SetCenterWorld(1.0, 2.0, 3.0)
    _answer(session, exam)
    assert session.exam.row_of(roi).fresh == "stale"


def test_a_result_that_cannot_be_read_is_one_sentence(session, volumes, exam):
    _run(session, volumes)
    session.worker.requests[0].body["output"] = str(session.worker.folder / "elsewhere")
    _answer(session, exam)
    assert session.status.problem
    assert "cam_L1.nrrd" in session.status.text
    assert not session.is_busy


def test_detect_places_rois_that_are_not_diagnosed(session, volumes):
    session.detect(volumes)
    session.loop.run()
    box = {"id": "L1", "center_ras_mm": [1, 2, 3], "size_mm": [10, 20, 30], "source": "detector", "score": 0.8}
    session.worker.requests[0].result({"rois": [box | {"axes_ras": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}]})
    session.loop.run()
    assert [session.exam.row_of(roi).fresh for roi in session.exam.rois()] == ["new"]
    assert session.status.text == "One lesion was found."


def test_progress_never_goes_back_and_says_the_stage(session, volumes):
    _run(session, volumes)
    seen = []
    for stage, fraction in (("read", 0.5), ("align", 0.0), ("align", 1.0), ("detect", 0.3), ("classify", 0.9)):
        session.worker.requests[0].progress(stage, fraction, f"Now {stage}")
        seen.append(session.fraction)
    assert seen == sorted(seen)
    assert session.status.text == "Now classify"


def test_a_lesion_removed_before_its_map_is_asked_for_is_one_sentence(session, volumes, exam):
    _run(session, volumes)
    _answer(session, exam)
    failed, roi = [], session.exam.rois()[0]
    session.worker.is_ready = False
    session.map(volumes, "", roi, "HB", on_failed=lambda: failed.append(True))
    session.exam.remove_roi(roi)
    session.worker.waiting.pop()(session.worker.folder)
    session.loop.run()
    assert session.status.text == "The lesion was removed, so its heat map was not computed."
    assert failed == [True] and not session.is_busy and len(session.worker.requests) == 1


def test_is_warm_for_the_exam_that_the_worker_was_given(session, scene, volumes, exam):
    assert not session.is_warm
    _run(session, volumes)
    _answer(session, exam)
    assert session.is_warm
    others = {phase: _volume(scene, phase, seed) for seed, phase in enumerate(("AP", "PVP"), 7)}
    session.exam.set_phases(others)
    session.exam.show(session_result(exam), {})
    assert not session.is_warm


def session_result(exam):
    """Return a diagnosis with its CAMs as they are read from files."""
    from dataclasses import replace

    from PediatricLiverDxLib.result_document import place_cam

    aligned, diagnosis = exam
    return replace(diagnosis, lesions=tuple(replace(one, cam=place_cam(one.cam, aligned.grid)) for one in diagnosis.lesions))


def test_it_is_told_that_a_result_begins_to_be_shown(session, volumes, exam):
    seen = []
    _run(session, volumes)
    session.changed = lambda: seen.append(session.is_showing)
    _answer(session, exam)
    assert seen == [True, False]
