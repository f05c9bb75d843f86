"""result.schema.json: holds what we write, refuses what would mislead a reader."""

from __future__ import annotations

import copy
import json
from importlib import resources

import pytest
from example_diagnosis import example_aligned, example_diagnosis
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import PHASES

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

SCHEMA = json.loads(resources.files("PediatricLiverDxLib").joinpath("result.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def result(present: tuple[str, ...] = PHASES, n_lesions: int = 2) -> dict:
    return json.loads(json.dumps(example_diagnosis(example_aligned(present=present), n_lesions).to_dict(), allow_nan=False))


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("present", [PHASES, ("PC", "AP", "PVP"), ("PVP",), ("AP", "DP")])
@pytest.mark.parametrize("n_lesions", [0, 1, 2])
def test_results_hold(present, n_lesions):
    VALIDATOR.validate(result(present, n_lesions))


@pytest.mark.parametrize("with_rois", [False, True])
def test_result_of_a_real_run_holds(tiny_exam, tiny_aligned, networks, with_rois):
    rois = [Roi.from_index_box(tiny_aligned.grid, (24, 30, 8, 40, 46, 16), source="radiologist")] if with_rois else None
    written = json.loads(json.dumps(diagnose(tiny_exam, tiny_aligned, networks, rois=rois).to_dict(), allow_nan=False))
    VALIDATOR.validate(written)
    assert written["lesions"]
    assert (written["lesions"][0]["detection_score"] is None) == with_rois


def test_absent_phase_is_null_not_zero():
    written = result(("PVP",), 1)
    assert written["lesions"][0]["phase_shapley"]["stage1"]["values"] == {"PC": None, "AP": None, "PVP": pytest.approx(0.52), "DP": None}
    assert written["exam"]["phases"]["AP"] == {"present": False, "source": None, "recognised": None, "alignment": None}


def test_probabilities_of_the_example_add_up():
    for lesion in result()["lesions"]:
        classes = lesion["class_probabilities"]
        assert sum(classes.values()) == pytest.approx(1, abs=1e-9)
        assert classes["HB"] + classes["OMHT"] == pytest.approx(lesion["malignant_probability"], abs=1e-9)
        for shapley in lesion["phase_shapley"].values():
            assert shapley["baseline"] + sum(shapley["values"].values()) == pytest.approx(shapley["total"], abs=1e-6)


def _without(*keys):
    def spoil(written):
        for key in keys[:-1]:
            written = written[key]
        del written[keys[-1]]

    return spoil


def _with(value, *keys):
    def spoil(written):
        for key in keys[:-1]:
            written = written[key]
        written[keys[-1]] = value

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _without("gate"),
        _without("bundle", "intended_use"),
        _without("exam", "phases", "PC"),
        _without("lesions", 0, "phase_shapley", "stage2"),
        _without("lesions", 0, "class_probabilities", "HH"),
        _with("trusted", "gate", "verdict"),
        _with([], "gate", "reasons"),
        _with(1.2, "lesions", 0, "malignant_probability"),
        _with([0, 0], "lesions", 0, "roi", "center_ras_mm"),
        _with([10, 0, 10], "lesions", 0, "roi", "size_mm"),
        _with("FNH", "lesions", 0, "decision"),
        _with([1, 2], "lesions", 0, "slices"),
        _with("elsewhere/cam.nrrd", "lesions", 0, "cam"),
        _with("abc", "bundle", "sha256"),
        _with("Doe", "patient_name"),
        _with("PVP.nrrd", "exam", "phases", "PVP", "alignment"),
        _with(False, "exam", "phases", "PVP", "present"),
    ],
)
def test_what_would_mislead_is_refused(spoil):
    written = copy.deepcopy(result())
    spoil(written)
    assert not VALIDATOR.is_valid(written)
