"""The command line: a study in, files and a table out; unusable input ends with code 2, one sentence, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import LESION_BOX, REAL_CT, SIZE, drawn_images, write_study
from PediatricLiverDxLib.cli import main
from PediatricLiverDxLib.outputs import NO_SLICER
from PediatricLiverDxLib.rois import Roi, write_roi
from PediatricLiverDxLib.volumes import Grid
from PediatricLiverDxLib.wording import GATE_TITLES, RESEARCH_ONLY, percent

COMMAND = [sys.executable, "-m", "PediatricLiverDxLib.cli"]


@pytest.fixture(autouse=True)
def no_scene(monkeypatch):
    """Importing Slicer's core takes a second; test_outputs and test_scene write scenes."""
    monkeypatch.setattr("PediatricLiverDxLib.outputs.scene_writer", lambda: (None, NO_SLICER))


def diagnose(*arguments: object) -> int:
    return main(["diagnose", *map(str, arguments)])


def refused(capsys, out: Path, *arguments: object) -> str:
    """Run diagnose, expect code 2 with one sentence and nothing written, and return the sentence."""
    assert diagnose(*arguments, "-o", out) == 2
    text = capsys.readouterr().err.strip()
    assert "\n" not in text and text.startswith("pediatric-liver-dx: ") and text.endswith(".")
    assert not out.exists()
    assert not list(out.parent.glob(".writing-*"))
    return text


def test_a_study_becomes_a_result_and_a_table(tiny_study, tiny_bundle, tmp_path, capsys):
    assert diagnose(tiny_study, "-o", tmp_path / "out", "--bundle", tiny_bundle) == 0
    table = capsys.readouterr().out
    for words in ("L1", "right of the midline", "report.html", "PC", "DP", "test-bundle", RESEARCH_ONLY):
        assert words in table
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert table.startswith(GATE_TITLES[result["gate"]["verdict"]])
    malignant, subtype = re.findall(r"[<>]? ?\d+ %", next(line for line in table.splitlines() if line.startswith("L1")))
    lesion = result["lesions"][0]
    assert malignant.strip() == percent(lesion["malignant_probability"])
    assert subtype.strip() == percent(lesion["class_probabilities"][lesion["decision"]])
    assert {"start", "read", "align", "load", "detect", "classify", "gate", "write"} == set(result["timings_s"])
    centre = np.array(result["lesions"][0]["roi"]["center_ras_mm"])
    low, high = np.array(LESION_BOX[:3]), np.array(LESION_BOX[3:])
    assert np.allclose(centre, Grid.of(drawn_images()["PVP"]).index_to_ras(((low + high) / 2 - 0.5)[None])[0], atol=3)


def test_files_by_phase(tiny_study, tiny_bundle, tmp_path, capsys):
    files = ["--ap", tiny_study / "AP.nrrd", "--pvp", tiny_study / "PVP.nrrd"]
    assert diagnose(*files, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--no-align") == 0
    phases = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["exam"]["phases"]
    assert [phase for phase, of in phases.items() if of["present"]] == ["AP", "PVP"]


def test_rois_replace_the_detector(tiny_study, tiny_bundle, tmp_path):
    grid = Grid.of(drawn_images()["PVP"])
    write_roi(Roi.from_index_box(grid, (50, 30, 8, 60, 40, 12)), tmp_path / "one.mrk.json")
    write_roi(Roi.from_index_box(grid, (30, 30, 8, 48, 46, 16)), tmp_path / "two.mrk.json")
    out, rois = tmp_path / "out", ["--roi", tmp_path / "one.mrk.json", "--roi", tmp_path / "two.mrk.json"]
    assert diagnose(tiny_study, *rois, "-o", out, "--bundle", tiny_bundle) == 0
    lesions = json.loads((out / "result.json").read_text(encoding="utf-8"))["lesions"]
    assert [lesion["roi"]["source"] for lesion in lesions] == ["radiologist", "radiologist"]
    assert lesions[0]["roi"]["size_mm"] == pytest.approx([54, 48, 40])


def test_progress_as_json_lines(tiny_study, tiny_bundle, tmp_path, capsys):
    assert diagnose(tiny_study, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--json-progress") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["read", "align", "detect", "classify", "gate", "write", "done"]
    assert all(0 <= line["fraction"] <= 1 for line in lines)


def run_command(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [*COMMAND, "diagnose", *map(str, arguments)]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **options.pop("env", {})}
    return subprocess.run(command, stderr=subprocess.PIPE, env=env, **options)


def test_a_name_that_the_terminal_cannot_show_does_not_spoil_a_result(tiny_study, tiny_bundle, tmp_path):
    out = tmp_path / "Größe"
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = run_command(tiny_study, "-o", out, "--bundle", tiny_bundle, "--no-align", stdout=subprocess.PIPE, env=env)
    assert done.returncode == 0, done.stderr
    assert b"Gr\\xf6\\xdfe" in done.stdout and (out / "result.json").is_file()


@pytest.mark.parametrize("progress", [[], ["--json-progress"]])
def test_a_reader_who_has_gone_does_not_spoil_a_result(tiny_study, tiny_bundle, tmp_path, progress):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run_command(tiny_study, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--no-align", *progress, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out" / "result.json").is_file()


def test_main_leaves_the_process_as_it_is(capsys):
    """Only the program sets signals and environment: main is called from tests and other programs as well."""
    before = signal.getsignal(signal.SIGTERM), dict(os.environ)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert main(["bundle", "verify", "nowhere"]) == 2
    assert (signal.getsignal(signal.SIGTERM), dict(os.environ)) == before


def test_names_of_roi_files_are_not_told(tiny_study, tiny_bundle, tmp_path, capsys):
    grid = Grid.of(drawn_images()["PVP"])
    write_roi(Roi.from_index_box(grid, (-10, 30, 8, 10, 46, 16)), tmp_path / "DOE_JANE_1.mrk.json")
    write_roi(Roi((900.0, 0.0, 0.0), (9.0, 9.0, 9.0)), tmp_path / "DOE_JANE_2.mrk.json")
    rois = ["--roi", tmp_path / "DOE_JANE_1.mrk.json", tmp_path / "DOE_JANE_2.mrk.json"]
    assert diagnose(tiny_study, *rois, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--no-align") == 0
    result = (tmp_path / "out" / "result.json").read_text(encoding="utf-8")
    warnings = json.loads(result)["warnings"]
    assert any(warning.startswith("ROI L1 reaches beyond the edge") for warning in warnings)
    assert any(warning.startswith("Left out: the ROI 2 ") for warning in warnings)
    assert "DOE_JANE" not in result + (tmp_path / "out" / "report.html").read_text(encoding="utf-8") + capsys.readouterr().out


def test_a_second_run_replaces_the_first(tiny_study, tiny_bundle, tmp_path, capsys):
    out = tmp_path / "out"
    assert diagnose(tiny_study, "-o", out, "--bundle", tiny_bundle) == 0
    roi = tmp_path / "far.mrk.json"
    write_roi(Roi((900.0, 0.0, 0.0), (9.0, 9.0, 9.0)), roi)
    before = (out / "result.json").read_text(encoding="utf-8")
    assert diagnose(tiny_study, "-o", out, "--bundle", tiny_bundle, "--roi", roi) == 2
    assert (out / "result.json").read_text(encoding="utf-8") == before
    write_study(tmp_path / "healthy", lesion=False)
    assert diagnose(tmp_path / "healthy", "-o", out, "--bundle", tiny_bundle) == 0
    assert not [*out.glob("cam_*"), *out.glob("roi_*")] and json.loads((out / "result.json").read_text(encoding="utf-8"))["lesions"] == []
    assert "No lesion was found" in capsys.readouterr().out


def test_verify(tiny_bundle, tmp_path, capsys):
    assert main(["bundle", "verify", str(tiny_bundle)]) == 0
    assert "4 networks" in capsys.readouterr().out
    broken = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    (broken / "vit.onnx").unlink()
    assert main(["bundle", "verify", str(broken)]) == 2
    assert "vit.onnx" in capsys.readouterr().err


# unusable input -----------------------------------------------------------------------------------------------------------


def test_empty_folder(tiny_bundle, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    refused(capsys, tmp_path / "out", tmp_path / "empty", "--bundle", tiny_bundle)


def test_missing_study(tiny_bundle, tmp_path, capsys):
    refused(capsys, tmp_path / "out", tmp_path / "none", "--bundle", tiny_bundle)


def test_a_study_that_the_system_refuses_is_no_matter_of_the_output(tiny_bundle, tmp_path, capsys):
    text = refused(capsys, tmp_path / "out", tmp_path / ("x" * 300), "--bundle", tiny_bundle)
    assert "too long" in text and "results" not in text


def test_neither_or_both_of_study_and_files(tiny_study, tmp_path, capsys):
    assert "either" in refused(capsys, tmp_path / "out")
    assert "either" in refused(capsys, tmp_path / "out", tiny_study, "--pc", tiny_study / "PC.nrrd")


def test_text_file_called_nii(tiny_bundle, tmp_path, capsys):
    (tmp_path / "PVP.nii").write_text("this is no volume\n")
    refused(capsys, tmp_path / "out", "--pvp", tmp_path / "PVP.nii", "--bundle", tiny_bundle)


def test_truncated_nifti(tiny_bundle, tmp_path, capsys):
    path = tmp_path / "PVP.nii.gz"
    sitk.WriteImage(drawn_images()["PVP"], str(path))
    path.write_bytes(path.read_bytes()[:5000])
    refused(capsys, tmp_path / "out", "--pvp", path, "--bundle", tiny_bundle)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_do_not_end_in_a_traceback(tiny_bundle, tmp_path, capsys, value):
    array = np.full(SIZE[::-1], value, np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "PVP.nrrd"))
    refused(capsys, tmp_path / "out", "--pvp", tmp_path / "PVP.nrrd", "--bundle", tiny_bundle)


def test_roi_outside(tiny_study, tiny_bundle, tmp_path, capsys):
    write_roi(Roi((900.0, 0.0, 0.0), (20.0, 20.0, 20.0)), tmp_path / "far.mrk.json")
    text = refused(capsys, tmp_path / "out", tiny_study, "--roi", tmp_path / "far.mrk.json", "--bundle", tiny_bundle)
    assert "outside the volume" in text


def test_roi_half_outside_is_cut_and_said(tiny_study, tiny_bundle, tmp_path, capsys):
    write_roi(Roi.from_index_box(Grid.of(drawn_images()["PVP"]), (-10, 30, 8, 10, 46, 16)), tmp_path / "half.mrk.json")
    out = tmp_path / "out"
    assert diagnose(tiny_study, "--roi", tmp_path / "half.mrk.json", "-o", out, "--bundle", tiny_bundle) == 0
    assert "was cut to the 50%" in capsys.readouterr().out


def test_tampered_bundle(tiny_study, tiny_bundle, tmp_path, capsys):
    broken = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    (broken / "heads.npz").write_bytes(b"PK")
    assert "heads.npz" in refused(capsys, tmp_path / "out", tiny_study, "--bundle", broken)


def test_output_is_a_file(tiny_study, tiny_bundle, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert diagnose(tiny_study, "-o", tmp_path / "out", "--bundle", tiny_bundle) == 2
    assert (tmp_path / "out").read_text(encoding="utf-8") == "a file"


def test_unwritable_output(tiny_study, tiny_bundle, tmp_path, capsys):
    # nothing can be made inside a file, not even by root
    (tmp_path / "file").write_text("")
    assert diagnose(tiny_study, "-o", tmp_path / "file" / "out", "--bundle", tiny_bundle) == 2
    assert "cannot be written" in capsys.readouterr().err


def limit_files(size: int):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [200, 60_000, 300_000])
def test_full_disk(tiny_study, tiny_bundle, tmp_path, size):
    """No file may grow beyond a limit: the first that is written (the activation map) meets it, or the report, or the scene's volumes."""
    command = [*COMMAND, "diagnose", str(tiny_study), "-o", str(tmp_path / "out"), "--bundle", str(tiny_bundle)]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limit_files(size), env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_kill_leaves_nothing(tiny_study, tiny_bundle, tmp_path):
    command = [*COMMAND, "diagnose", str(tiny_study), "-o", str(tmp_path / "out"), "--bundle", str(tiny_bundle), "--json-progress"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode not in (0, 1)
    for _ in range(20):
        if not list(tmp_path.iterdir()):
            break
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


# real CT ------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL_CT.is_dir(), reason="the real CT volumes are not beside this repository")
@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("lidc-0314-dicom", "PC"),
        ("dcmqi-liver", "PC"),
        ("totalsegmentator/example_ct.nii.gz", "PC"),
        ("totalsegmentator/aorta_report_ct_cropped.nii.gz", "AP"),
    ],
)
def test_real_ct_runs_with_the_right_phase_and_is_not_trusted(tiny_bundle, tmp_path, capsys, name, phase):
    source = REAL_CT / name
    if source.is_file():
        (tmp_path / "study").mkdir()
        shutil.copy(source, tmp_path / "study")
        source = tmp_path / "study"
    assert diagnose(source, "-o", tmp_path / "out", "--bundle", tiny_bundle) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["gate"]["verdict"] != "trust"
    present = [of for of, facts in result["exam"]["phases"].items() if facts["present"]]
    assert present == [phase]
