"""Outputs: all files or none, in place of a former run's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import LESION_BOX
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.outputs import output_folder, write_outputs
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
    result = json.loads((tmp_path / "result.json").read_text())
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


def test_without_slicer_core_the_scene_is_left_out_and_that_is_said(diagnosis, tiny_aligned, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PediatricLiverDxLib.scene", None)
    written = write_outputs(diagnosis, tiny_aligned, tmp_path)
    assert "scene.mrb" not in names(tmp_path)
    assert any("scene.mrb was left out" in warning for warning in written.warnings)
    assert any("scene.mrb was left out" in warning for warning in json.loads((tmp_path / "result.json").read_text())["warnings"])


def test_a_new_folder_appears_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with output_folder(out) as folder:
        (folder / "result.json").write_text("{}")
        assert not out.exists()
    assert names(out) == {"result.json"}
    assert names(out.parent) == {"out"}


def test_a_former_run_is_replaced_and_other_files_stay(tmp_path):
    for name in ("result.json", "cam_L1.nrrd", "cam_L2.nrrd", "roi_L2.mrk.json", "notes.txt"):
        (tmp_path / name).write_text("old")
    with output_folder(tmp_path) as folder:
        (folder / "result.json").write_text("new")
        (folder / "cam_L1.nrrd").write_text("new")
    assert names(tmp_path) == {"result.json", "cam_L1.nrrd", "notes.txt"}
    assert (tmp_path / "cam_L1.nrrd").read_text() == "new"


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


def test_an_error_of_the_disk_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="No space left"), output_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")


def test_a_file_as_output_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="expected a folder"), output_folder(tmp_path / "out"):
        pass
