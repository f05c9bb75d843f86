"""What is measured of exams that were read, and what is said of what cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PediatricLiverDxLib.vocabulary import CLASSES, HEADS

from training.evaluate import measure
from training.model_card import model_card
from training.plain_json import write_json


def read_exam(number: int, class_name: str, *, right: bool = True) -> dict:
    """Return what reading.read_one gives of an exam whose one lesion was found, and named rightly or not."""
    named = class_name if right else CLASSES[(CLASSES.index(class_name) + 1) % 4]
    probabilities = {name: 0.91 if name == named else 0.03 for name in CLASSES}
    box = [10.0, 10.0, 30.0, 30.0]
    return {
        "exam_id": f"e{number}", "patient_id": f"p{number}", "class": class_name, "entity": "", "age_years": 3.0, "gate": "trust",
        "true_lesions": 1, "matched": [0], "false_positives": 0,
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
