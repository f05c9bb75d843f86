"""Diagnosis: from an aligned exam to a result that is whole, consistent and JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import IGNORED_PHASE, LESION_BOX, drawn_images
from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.exam import exam_from_images
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import CLASSES, PHASES, InputError


@pytest.fixture(scope="module")
def diagnosis(tiny_exam, tiny_aligned, networks):
    return diagnose(tiny_exam, tiny_aligned, networks, timings_s={"align": 0.5})


def test_the_lesion_is_found_and_described(diagnosis):
    (lesion,) = diagnosis.lesions
    assert lesion.id == "L1" and lesion.roi.source == "detector"
    assert sum(lesion.class_probabilities.values()) == pytest.approx(1)
    assert lesion.decision in CLASSES
    assert lesion.slices == tuple(sorted(lesion.slices))
    assert LESION_BOX[2] <= lesion.slices[0] and lesion.slices[2] < LESION_BOX[5]
    assert lesion.composites.shape == (3, 4, 64, 64) and lesion.cam_slices.shape == (3, 64, 64)


def test_result_is_plain_json_and_adds_up(diagnosis):
    result = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert result["exam"]["phases"]["AP"]["present"]
    assert result["timings_s"].keys() == {"align", "detect", "classify", "gate"}
    (lesion,) = result["lesions"]
    assert lesion["cam"] == "cam_L1.nrrd"
    for stage in lesion["phase_shapley"].values():
        assert stage["baseline"] + sum(stage["values"].values()) == pytest.approx(stage["total"], abs=1e-6)
        assert stage["values"][IGNORED_PHASE] == pytest.approx(0, abs=1e-7)
    assert lesion["phase_shapley"]["stage1"]["total"] == pytest.approx(lesion["malignant_probability"], abs=1e-9)


def test_ensemble_lies_between_its_backbones(diagnosis):
    (lesion,) = diagnosis.lesions
    own = [values["malignant_probability"] for values in lesion.backbones.values()]
    assert min(own) <= lesion.malignant_probability <= max(own)


def test_the_same_input_gives_the_same_result(diagnosis, tiny_exam, tiny_aligned, networks):
    again = diagnose(tiny_exam, tiny_aligned, networks)
    assert again.to_dict()["lesions"] == diagnosis.to_dict()["lesions"]


def test_given_rois_replace_the_detector(tiny_exam, tiny_aligned, networks):
    grid = tiny_aligned.grid
    small = Roi.from_index_box(grid, (50, 30, 8, 56, 36, 11), id="mine", source="radiologist")
    large = Roi.from_index_box(grid, LESION_BOX, id="other", source="radiologist")
    diagnosis = diagnose(tiny_exam, tiny_aligned, networks, rois=[small, large])
    assert [lesion.id for lesion in diagnosis.lesions] == ["L1", "L2"]
    assert np.allclose(diagnosis.lesions[0].roi.size_mm, large.size_mm)
    assert diagnosis.lesions[0].detection_score is None
    assert "detect" not in diagnosis.timings_s


def test_no_rois_means_no_lesions(tiny_exam, tiny_aligned, networks):
    diagnosis = diagnose(tiny_exam, tiny_aligned, networks, rois=[])
    assert diagnosis.lesions == ()
    assert diagnosis.gate.verdict == "look"


def test_half_outside_is_cut_and_said(tiny_exam, tiny_aligned, networks):
    roi = Roi.from_index_box(tiny_aligned.grid, (-10, 30, 8, 10, 46, 16), id="mine", source="radiologist")
    diagnosis = diagnose(tiny_exam, tiny_aligned, networks, rois=[roi])
    assert any("cut to the 50%" in warning for warning in diagnosis.warnings)
    assert any("edge of the volume" in reason for reason in diagnosis.gate.reasons)
    assert np.allclose(diagnosis.lesions[0].roi.index_box(tiny_aligned.grid)[0], 0, atol=1e-6)


def test_outside_is_left_out_and_said_and_refused_when_it_is_all(tiny_exam, tiny_aligned, networks):
    outside = Roi((900.0, 0.0, 0.0), (20.0, 20.0, 20.0), id="far")
    inside = Roi.from_index_box(tiny_aligned.grid, LESION_BOX, id="near")
    diagnosis = diagnose(tiny_exam, tiny_aligned, networks, rois=[outside, inside])
    assert len(diagnosis.lesions) == 1
    assert any("Left out" in warning and "far" in warning for warning in diagnosis.warnings)
    with pytest.raises(InputError, match="outside the volume"):
        diagnose(tiny_exam, tiny_aligned, networks, rois=[outside])


@pytest.mark.parametrize("phases", [("PVP",), ("AP", "DP"), ("PC", "AP", "DP")])
def test_fewer_phases(networks, phases):
    exam = exam_from_images(drawn_images(3, phases))
    aligned = align(exam, enabled=False)
    roi = Roi.from_index_box(aligned.grid, LESION_BOX)
    result = diagnose(exam, aligned, networks, rois=[roi]).to_dict()
    values = result["lesions"][0]["phase_shapley"]["stage1"]["values"]
    assert {phase for phase in PHASES if values[phase] is not None} == set(phases)
    assert [phase for phase in PHASES if result["exam"]["phases"][phase]["present"]] == list(phases)


def test_progress_tells_the_stages_in_order_and_can_cancel(tiny_exam, tiny_aligned, networks):
    class Cancelled(Exception):
        pass

    stages: list[str] = []
    diagnose(tiny_exam, tiny_aligned, networks, progress=lambda stage, fraction, text: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["detect", "classify", "gate"]

    def cancel(stage: str, fraction: float, text: str) -> None:
        if stage == "classify":
            raise Cancelled

    with pytest.raises(Cancelled):
        diagnose(tiny_exam, tiny_aligned, networks, progress=cancel)


def test_cam_lies_over_the_roi(diagnosis, tiny_aligned):
    (lesion,) = diagnosis.lesions
    box = np.array(lesion.roi.index_box(tiny_aligned.grid))
    low, high = np.floor(box[:3] + 1e-6).astype(int), np.ceil(box[3:] - 1e-6).astype(int)
    assert lesion.cam.start_xyz == tuple(low)
    assert lesion.cam.array.shape == tuple(high - low)[::-1]
