"""A result.json that is read gives the Diagnosis that it was written from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from example_diagnosis import example_aligned, example_diagnosis
from PediatricLiverDxLib import wording
from PediatricLiverDxLib.outputs import write_outputs
from PediatricLiverDxLib.result_document import diagnosis_of, grid_to_ras, place_cam, read_result
from PediatricLiverDxLib.vocabulary import InputError


@pytest.fixture(scope="module")
def exam():
    aligned = example_aligned(oblique=True)
    return aligned, example_diagnosis(aligned, 2, "look")


@pytest.fixture(scope="module")
def output(exam, tmp_path_factory):
    folder = tmp_path_factory.mktemp("output")
    write_outputs(exam[1], exam[0], folder, scene=False, report=False)
    return folder


def test_the_way_there_and_back_changes_nothing(exam):
    for present, lesions in ((("AP", "PVP"), 1), (("PC", "AP", "PVP", "DP"), 0)):
        aligned = example_aligned(present=present)
        document = example_diagnosis(aligned, lesions).to_dict()
        assert diagnosis_of(json.loads(json.dumps(document))).to_dict() == document
    assert diagnosis_of(exam[1].to_dict()).to_dict() == exam[1].to_dict()


def test_every_word_is_the_same(exam):
    read = diagnosis_of(exam[1].to_dict())
    for one, other in zip(read.lesions, exam[1].lesions, strict=True):
        for words in (wording.lesion_name, wording.lesion_size, wording.short_result, wording.verdict, wording.sureness):
            assert words(one) == words(other)
        for stage, shapley in other.phase_shapley.items():
            assert wording.contribution(one.phase_shapley[stage]) == wording.contribution(shapley)


def test_a_phase_that_the_exam_lacks_plays_no_part():
    aligned = example_aligned(present=("AP", "DP"))
    lesion = diagnosis_of(example_diagnosis(aligned, 1).to_dict()).lesions[0]
    assert set(lesion.phase_shapley["stage1"].values) == {"AP", "DP"}


def test_cams_lie_where_they_were_made(exam, output):
    aligned, diagnosis = exam
    read = read_result({"diagnosis": json.loads((output / "result.json").read_text())}, output)
    for one, other in zip(read.lesions, diagnosis.lesions, strict=True):
        placed = place_cam(other.cam, aligned.grid)
        np.testing.assert_array_equal(one.cam.array, placed.array)
        np.testing.assert_allclose(one.cam.ijk_to_ras, placed.ijk_to_ras, atol=1e-6)
        first = aligned.grid.index_to_ras(np.array(other.cam.start_xyz, float))
        np.testing.assert_allclose(one.cam.ijk_to_ras[:3, 3], first, atol=1e-6)


def test_grid_to_ras_agrees_with_the_grid(exam):
    grid = exam[0].grid
    index = np.array([3.0, 5.0, 7.0])
    np.testing.assert_allclose((grid_to_ras(grid, (1, 2, 3)) @ [*index, 1])[:3], grid.index_to_ras(index + (1, 2, 3)), atol=1e-9)


def test_a_missing_cam_is_said_without_its_path(exam, tmp_path):
    with pytest.raises(InputError, match=r"cam_L1\.nrrd") as error:
        read_result({"diagnosis": exam[1].to_dict()}, tmp_path)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("document", [{}, {"schema_version": "0.1"}, [], {"schema_version": "1.0", "bundle": {}}])
def test_what_is_no_result_is_refused(document):
    with pytest.raises(InputError):
        diagnosis_of(document)


def test_what_result_json_lacks_stays_empty(exam):
    lesion = diagnosis_of(exam[1].to_dict()).lesions[0]
    assert lesion.cam is None and lesion.composites is None and lesion.cam_slices is None
    assert replace(lesion, cam=None).cam_file == "cam_L1.nrrd"
