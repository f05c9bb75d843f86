"""Outputs: all files or none, in place of a former run's."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import LESION_BOX
from PediatricLiverDxLib import outputs
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.outputs import OutputError, output_folder, write_outputs
from PediatricLiverDxLib.rois import read_rois
from PediatricLiverDxLib.vocabulary import InputError


@pytest.fixture(scope="module")
def diagnosis(tiny_exam, tiny_aligned, networks):
    return diagnose(tiny_exam, tiny_aligned, networks)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_are_written_and_agree(diagnosis, tiny_aligned, tmp_path):
    written = write_outputs(diagnosis, tiny_aligned, tmp_path, scene=False)
    assert names(tmp_path) == {"result.json", "report.html", "cam_L1.nrrd", "roi_L1.mrk.json"}
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result == json.loads(json.dumps(written.to_dict()))
    assert result["timings_s"]["write"] > 0
    (roi,) = read_rois(tmp_path / "roi_L1.mrk.json")
    assert np.allclose(roi.center_ras_mm, result["lesions"][0]["roi"]["center_ras_mm"])
    assert np.allclose(roi.size_mm, result["lesions"][0]["roi"]["size_mm"])


def test_cam_volume_lies_over_the_lesion(diagnosis, tiny_aligned, tiny_exam, tmp_path):
    write_outputs(diagnosis, tiny_aligned, tmp_path, scene=False)
    cam, reference = sitk.ReadImage(str(tmp_path / "cam_L1.nrrd")), tiny_exam.phases["PVP"].image
    assert cam.GetPixelID() == sitk.sitkFloat32
    assert cam.GetSpacing() == pytest.approx(reference.GetSpacing())
    assert cam.GetDirection() == pytest.approx(reference.GetDirection())
    corner = reference.TransformPhysicalPointToContinuousIndex(cam.GetOrigin())
    assert np.allclose(corner, LESION_BOX[:3], atol=1.01)
    assert np.allclose(corner, np.round(corner), atol=1e-6)
    array = sitk.GetArrayFromImage(cam)
    assert array.min() >= 0 and 0 < array.max() <= 1


def test_a_scene_is_written_where_slicer_core_is(diagnosis, tiny_aligned, tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    write_outputs(diagnosis, tiny_aligned, tmp_path)
    assert (tmp_path / "scene.mrb").stat().st_size > 10_000


def without_slicer(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "slicer", raising=False)
    monkeypatch.setattr(outputs, "find_spec", lambda name: None)


def test_without_slicer_core_the_scene_is_left_out_and_that_is_said(diagnosis, tiny_aligned, tmp_path, monkeypatch):
    without_slicer(monkeypatch)
    written = write_outputs(diagnosis, tiny_aligned, tmp_path)
    assert "scene.mrb" not in names(tmp_path)
    assert any("scene.mrb was left out" in warning for warning in written.warnings)
    assert any("is not installed" in warning for warning in json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["warnings"])


def failing_import(monkeypatch, error: ImportError) -> None:
    """Slicer's core is there, but importing the scene ends in an error."""

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "PediatricLiverDxLib.scene":
                raise error

    monkeypatch.setattr(outputs, "find_spec", lambda name: "there")
    monkeypatch.delitem(sys.modules, "PediatricLiverDxLib.scene", raising=False)
    monkeypatch.delattr(sys.modules["PediatricLiverDxLib"], "scene", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def test_a_slicer_core_that_cannot_be_loaded_is_not_called_missing(monkeypatch):
    failing_import(monkeypatch, ImportError("libEGL.so.1: cannot open shared object file", name="vtkmodules.vtkRenderingCore"))
    writer, why_not = outputs.scene_writer()
    assert writer is None and "libEGL.so.1" in why_not and "libegl1" in why_not and "not installed" not in why_not


def test_a_defect_in_our_own_scene_is_not_hidden(monkeypatch):
    failing_import(monkeypatch, ImportError("cannot import name 'x'", name="PediatricLiverDxLib.colours"))
    with pytest.raises(ImportError):
        outputs.scene_writer()


def test_a_new_folder_appears_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with output_folder(out) as folder:
        (folder / "result.json").write_text("{}")
        assert not out.exists()
    assert names(out) == {"result.json"}
    assert names(out.parent) == {"out"}


def former_run(folder: Path, lesions: int = 2) -> None:
    folder.mkdir(exist_ok=True)
    ids = [f"L{n + 1}" for n in range(lesions)]
    for name in ("report.html", "scene.mrb", *(f"cam_{i}.nrrd" for i in ids), *(f"roi_{i}.mrk.json" for i in ids)):
        (folder / name).write_text("old")
    (folder / "result.json").write_text(json.dumps({"lesions": [{"id": i, "cam": f"cam_{i}.nrrd"} for i in ids]}))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}


def test_a_former_run_is_replaced_and_other_files_stay(tmp_path):
    former_run(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with output_folder(tmp_path) as folder:
        (folder / "result.json").write_text("new")
        (folder / "cam_L1.nrrd").write_text("new")
    assert contents(tmp_path) == {"result.json": "new", "cam_L1.nrrd": "new", "notes.txt": "mine"}


@pytest.mark.parametrize("name", ["roi_corrected.mrk.json", "cam_of_mine.nrrd", "roi_L9.mrk.json"])
def test_what_a_radiologist_keeps_beside_the_results_stays(tmp_path, name):
    former_run(tmp_path)
    (tmp_path / name).write_text("mine")
    with output_folder(tmp_path) as folder:
        (folder / "result.json").write_text("new")
    assert contents(tmp_path) == {"result.json": "new", name: "mine"}


def test_names_in_a_former_result_lead_nowhere_else(tmp_path):
    out = tmp_path / "out"
    former_run(out, 0)
    (tmp_path / "cam_L1.nrrd").write_text("mine")
    (out / "result.json").write_text(json.dumps({"lesions": [{"id": "../x", "cam": "../cam_L1.nrrd"}]}))
    with output_folder(out) as folder:
        (folder / "result.json").write_text("new")
    assert (tmp_path / "cam_L1.nrrd").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["scene.mrb", "cam_L1.nrrd"])
def test_a_folder_in_the_way_is_refused_and_the_former_run_stays_whole(tmp_path, name):
    former_run(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=f"folder called {name}"), output_folder(tmp_path) as folder:
        for file in ("result.json", "report.html", "scene.mrb", "cam_L1.nrrd"):
            (folder / file).write_text("new")
    assert contents(tmp_path) == before and names(tmp_path) == {*before, name}


@pytest.mark.parametrize("failing", range(1, 10))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_former_run_comes_back_when_it_cannot_be_replaced(tmp_path, monkeypatch, failing, error):
    """The n-th move fails, whichever it is."""
    former_run(tmp_path)
    before, moves, move = contents(tmp_path), [], Path.replace

    def failing_move(path, target):
        moves.append(path)
        if len(moves) == failing:
            raise error
        return move(path, target)

    with pytest.raises((OutputError, KeyboardInterrupt)), output_folder(tmp_path) as folder:
        for file in ("result.json", "report.html", "cam_L1.nrrd", "cam_L3.nrrd"):
            (folder / file).write_text("new")
        monkeypatch.setattr(Path, "replace", failing_move)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_results_are_readable_for_whom_the_user_allows(tmp_path, mask):
    former = os.umask(mask)
    try:
        with output_folder(tmp_path / "out") as folder:
            (folder / "result.json").write_text("{}")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~mask


def test_of_two_runs_into_one_new_folder_the_later_stands(tmp_path):
    with output_folder(tmp_path / "out") as first, output_folder(tmp_path / "out") as second:
        (first / "result.json").write_text("first")
        (second / "result.json").write_text("second")
    # the inner one ends first
    assert (tmp_path / "out" / "result.json").read_text(encoding="utf-8") == "first"
    assert names(tmp_path) == {"out"} and names(tmp_path / "out") == {"result.json"}


def test_folders_made_for_nothing_are_taken_away(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError), output_folder(tmp_path / "there" / "new" / "deep" / "out"):
        raise InputError("no")
    assert names(tmp_path) == {"there"} and names(tmp_path / "there") == set()


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes are a matter of Linux")
def test_a_path_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(OutputError, match="UTF-8"), output_folder(tmp_path / os.fsdecode(b"out\xff")):
        pass
    assert names(tmp_path) == set()


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
def test_nothing_stays_of_a_run_that_failed(tmp_path, existed, error):
    out = tmp_path / "out"
    if existed:
        out.mkdir()
        (out / "result.json").write_text("former")
    with pytest.raises(error), output_folder(out) as folder:
        (folder / "report.html").write_text("half")
        raise error("stop")
    assert names(tmp_path) == ({"out"} if existed else set())
    if existed:
        assert names(out) == {"result.json"}


def test_only_errors_of_writing_are_errors_of_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), output_folder(tmp_path / "out"):
        raise FileNotFoundError(2, "No such file or directory")
    assert names(tmp_path) == set()


def test_an_error_of_the_disk_is_a_sentence(diagnosis, tiny_aligned, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_report", full)
    with pytest.raises(OutputError, match="No space left"):
        write_outputs(diagnosis, tiny_aligned, tmp_path, scene=False)


def test_a_file_of_ours_that_is_missing_is_our_defect(diagnosis, tiny_aligned, tmp_path, monkeypatch):
    def lacking(*_):
        raise FileNotFoundError(2, "No such file or directory", "report.html")

    monkeypatch.setattr(outputs, "write_report", lacking)
    with pytest.raises(FileNotFoundError):
        write_outputs(diagnosis, tiny_aligned, tmp_path, scene=False)


def test_a_file_as_output_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="expected a folder"), output_folder(tmp_path / "out"):
        pass


# Killed runs

KILLED = """
import os, signal, sys
from pathlib import Path
from PediatricLiverDxLib.outputs import output_folder
out, moves = Path(sys.argv[1]), int(sys.argv[2])
move = Path.replace
def replace(path, target):
    global moves
    if moves == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    moves -= 1
    return move(path, target)
Path.replace = replace
with output_folder(out) as folder:
    for name in ("report.html", "cam_L1.nrrd", "result.json"):
        (folder / name).write_text("half")
    if moves < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def run_and_kill(out: Path, moves: int = -1) -> None:
    """Kill a run before it has finished writing, or after so many files have been moved."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), str(moves)])
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("existed", [True, False])
def test_what_a_killed_run_left_is_gone_after_the_next(tmp_path, existed):
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    run_and_kill(out)
    assert list(tmp_path.rglob(".writing-*"))
    with output_folder(out) as folder:
        (folder / "result.json").write_text("new")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [out / "result.json"]
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("into", [".", "below"])
@pytest.mark.parametrize(("lesions", "moves"), [(lesions, moves) for lesions in (0, 1) for moves in range(1, 6 + 2 * lesions)])
def test_a_run_killed_while_it_replaces_a_former_one(tmp_path, lesions, moves, into):
    """The former run is whole, and nothing of the killed one is there, after the next one, though that fails and goes elsewhere."""
    former_run(tmp_path, lesions=lesions)
    before = contents(tmp_path)
    run_and_kill(tmp_path, moves)
    with pytest.raises(ValueError), output_folder(tmp_path / into):
        raise ValueError
    assert names(tmp_path) == set(before)
    assert contents(tmp_path) == before


def test_a_former_run_comes_back_though_putting_it_back_was_killed(tmp_path):
    former_run(tmp_path, lesions=1)
    before = contents(tmp_path)
    run_and_kill(tmp_path, 6)
    run_and_kill(tmp_path, 2)
    with pytest.raises(ValueError), output_folder(tmp_path):
        raise ValueError
    assert contents(tmp_path) == before


def test_the_folder_of_a_run_that_lives_stays(tmp_path):
    with output_folder(tmp_path / "out") as living:
        (living / "report.html").write_text("mine")
        with output_folder(tmp_path / "out2") as other:
            (other / "result.json").write_text("new")
        with output_folder(tmp_path / "out") as other:
            (other / "result.json").write_text("new")
        assert (living / "report.html").is_file()
    assert names(tmp_path / "out") == {"report.html"}
    assert names(tmp_path / "out2") == {"result.json"}


def test_no_lock_is_left_among_the_results(tmp_path):
    for _ in range(2):
        with output_folder(tmp_path / "out") as folder:
            (folder / "result.json").write_text("new")
        assert names(tmp_path / "out") == {"result.json"}
