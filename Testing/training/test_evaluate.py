"""What is measured of exams that were read, and what is said of what cannot be measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PediatricLiverDxLib.vocabulary import CLASSES, HEADS, NO_TUMOUR, InputError

from training import evaluate
from training.baselines import baseline_scores
from training.cohort import ExamRecord
from training.evaluate import measure
from training.model_card import model_card
from training.plain_json import write_json
from training.seen_exams import describe_seen, refuse_known, refuse_seen
from training.statistics import auc


def read_exam(number: int, class_name: str, *, right: bool = True) -> dict:
    """Return what reading.read_one gives of an exam whose one lesion was found, and named rightly or not."""
    named = class_name if right else CLASSES[(CLASSES.index(class_name) + 1) % 4]
    probabilities = {name: 0.91 if name == named else 0.03 for name in CLASSES}
    box = [10.0, 10.0, 30.0, 30.0]
    return {
        "exam_id": f"e{number}", "patient_id": f"p{number}", "class": class_name, "entity": "", "age_years": 3.0, "gate": "trust",
        "true_sizes_mm": [30.0], "matched": [0], "false_positives": 0,
        "found": [{"score": 0.9, "probabilities": probabilities, "decision": named}],
        "true_rois": [{"probabilities": probabilities, "backbones": {"resnet18": probabilities}}],
        "composites": [{"found": [[*box, 0.9]], "true": [box]}],
    }


def document(metrics: dict) -> dict:
    """Return the least that a model card is made from."""
    classifier = {"file": "resnet18.onnx", "size": 128, "temperatures": dict.fromkeys(HEADS, 1.0)}
    return {
        "name": "tiny", "version": "1", "intended_use": "tests", "trained_on": "balls", "k": 3, "metrics": metrics,
        "detector": {"size": 256, "threshold": 0.2, "link": {"min_score": 0.3}}, "classifiers": {"resnet18": classifier},
    }


def test_exams_of_one_class_leave_figures_empty_rather_than_not_a_number(tmp_path: Path):
    metrics = measure([read_exam(n, "HB") for n in range(4)], draws=20)
    assert metrics["pipeline"]["stage1"]["auc"] is None and metrics["pipeline"]["stage1"]["ci95"] is None
    write_json(tmp_path / "metrics.json", metrics)
    json.loads((tmp_path / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    card = model_card(document(metrics))
    assert "not measurable" in card and " nan" not in card


def test_no_number_is_written_as_null(tmp_path: Path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), np.float64("inf"), 1.5], "b": {"c": float("-inf")}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, None, 1.5], "b": {"c": None}}


def test_measured_figures_are_those_of_the_exams():
    exams = [read_exam(n, CLASSES[n % 4], right=n != 0) for n in range(40)]
    metrics = measure(exams, draws=50)
    assert metrics["pipeline"]["accuracy"] == pytest.approx(39 / 40)
    assert metrics["pipeline"]["detection"]["map40"] == pytest.approx(1)
    assert metrics["true_rois"]["malignant_subtype"]["auc"] == pytest.approx(1)
    assert metrics["pipeline"]["stage1"]["ci95"][1] == pytest.approx(1)


def test_lesions_are_counted_by_size_and_exams_by_what_they_were_taken_for():
    exams = [{**read_exam(n, "HB", right=n > 0), "entity": "HB"} for n in range(4)]
    exams[1] |= {"true_sizes_mm": [40.0, 10.0, 9.9], "matched": [0, None, 1]}
    metrics = measure(exams, draws=5)
    assert [(one["from_mm"], one["found"], one["lesions"]) for one in metrics["pipeline"]["detection"]["by_size"]] == [
        (0, 1, 1), (10, 0, 1), (20, 3, 3), (40, 1, 1),
    ]
    assert metrics["entities"]["HB"]["taken_for_true_rois"] == {"OMHT": 1, "HB": 3}
    assert "0 to 10 mm 1 of 1, 10 to 20 mm 0 of 1, 20 to 40 mm 3 of 3, 40 mm and more 1 of 1" in model_card(document(metrics))


def test_the_gates_verdicts_are_held_against_what_was_right():
    exams = [read_exam(n, CLASSES[n % 4], right=n not in (5, 7)) for n in range(12)]  # OBHT taken for HB, OMHT for HH
    exams[4:8] = [{**exam, "gate": "look"} for exam in exams[4:8]]
    exams[4] |= {"found": [], "matched": [None]}
    found = measure(exams, draws=50)["stage1_by_verdict"]
    assert {verdict: (one["exams"], one["accuracy"]) for verdict, one in found.items()} == {"trust": (8, 1.0), "look": (4, 0.25)}
    assert found["trust"]["ci95"] is None and 0 <= found["look"]["ci95"][0] < 0.25 < found["look"]["ci95"][1]
    assert found["trust"]["nothing_found"] == 0 and found["look"]["nothing_found"] == 1
    card = model_card(document(measure(exams, draws=50)))
    assert "right in 1.000 (no interval) of 8 exams, 8 patients; nothing found, which counts as wrong, in 0" in card


def test_exams_without_a_tumour_are_measured_on_their_own():
    exams = [read_exam(n, CLASSES[n % 4]) for n in range(8)]
    nothing = {"class": NO_TUMOUR, "true_sizes_mm": [], "matched": [], "true_rois": [], "composites": []}
    free = [{**read_exam(100 + n, "HB"), **nothing} for n in range(4)]
    free[1:] = [{**exam, "found": []} for exam in free[1:]]
    metrics = measure(exams + free, draws=50)
    assert metrics["tumour_free"]["exams"] == metrics["tumour_free"]["patients"] == 4
    assert metrics["tumour_free"]["specificity"] == 0.75 and metrics["tumour_free"]["false_positives_per_exam"] == 0.25
    assert metrics["tumour_free"]["marked_and_trusted"] == 1
    without = {**measure(exams, draws=50), "tumour_free": metrics["tumour_free"], "gate": metrics["gate"]}
    assert without == metrics
    assert "4 further exams without a tumour" in model_card(document(metrics))


def test_small_lesions_count_apart():
    exam = {**read_exam(0, "HB"), "true_sizes_mm": [30.0, 7.0], "matched": [0, None]}
    detection = measure([exam], draws=20)["pipeline"]["detection"]
    assert detection["sensitivity_3d"] == 0.5 and detection["sensitivity_3d_measurable"] == 1
    assert (detection["lesions"], detection["lesions_measurable"]) == (2, 1)


@pytest.fixture
def record(tmp_path: Path) -> ExamRecord:
    (tmp_path / "PVP.nrrd").write_text("volume")
    return ExamRecord("e1", "p1", "retrospective", "HB", "", 3.0, "F", {"PVP": tmp_path / "PVP.nrrd"}, None)


def test_a_line_cut_off_by_a_kill_is_read_again_and_so_is_a_changed_exam(
    tmp_path: Path, record: ExamRecord, monkeypatch: pytest.MonkeyPatch
):
    read = []
    monkeypatch.setattr(evaluate, "networks_key", lambda bundle: "key")
    monkeypatch.setattr(evaluate, "read_one", lambda one, bundle: read.append(one.exam_id) or {"exam_id": one.exam_id})
    records = [record, dataclasses.replace(record, exam_id="e2")]
    evaluate.read_exams(records, tmp_path, tmp_path)
    assert read == ["e1", "e2"]
    lines = (tmp_path / "exams.jsonl").read_text()
    (tmp_path / "exams.jsonl").write_text(lines[:-15])
    for _ in range(2):
        assert [line["exam_id"] for line in evaluate.read_exams(records, tmp_path, tmp_path)] == ["e1", "e2"]
    assert read == ["e1", "e2", "e2"]
    assert (tmp_path / "exams.jsonl").read_text() == lines
    (tmp_path / "PVP.nrrd").write_text("another volume")
    evaluate.read_exams(records, tmp_path, tmp_path)
    assert read == ["e1", "e2", "e2", "e1", "e2"]


def test_seen_exams_and_further_exams_of_seen_patients_are_refused(record: ExamRecord):
    document = {"training": {"seen": describe_seen([record])}}
    other_exam, other_patient = dataclasses.replace(record, exam_id="e2"), dataclasses.replace(record, exam_id="e2", patient_id="p2")
    for seen in (record, other_exam):
        with pytest.raises(InputError, match="trained on"):
            refuse_seen(document, [other_patient, seen])
        with pytest.raises(InputError, match="trained on"):
            refuse_known([record], [other_patient, seen])
    assert refuse_seen(document, [other_patient])
    refuse_known([record], [other_patient])
    assert not refuse_seen({}, [record])
    assert "p1" not in json.dumps(document)


def test_each_baseline_uses_its_own_facts_only():
    """Diameter tells the sides apart and age says nothing; an age that nobody knows is no obstacle."""
    rng = np.random.default_rng(0)
    malignant = np.arange(60) % 2 > 0
    rows = [({"mean_hu": [60.0, 70.0, 80.0, None], "diameter_mm": 30.0 + 40 * m + rng.normal()}, None) for m in malignant]
    scores = baseline_scores(rows, malignant, rows)
    assert auc(malignant, scores["diameter"]) == auc(malignant, scores["diameter and age"]) == 1
    assert auc(malignant, scores["age"]) == auc(malignant, scores["mean HU of the lesion's box in four phases"]) == 0.5
