"""A configuration is read, kept whole, and refused when it holds what nobody knows."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import pytest
from PediatricLiverDxLib.vocabulary import BACKBONES, InputError

from training.configuration import Configuration, configuration_of_run
from training.steps.cohort_arguments import chosen_configuration

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_configurations_are_complete(path: Path):
    configuration = Configuration.read(path)
    assert set(configuration.classifiers.epochs) == set(configuration.classifiers.learning_rate) == set(BACKBONES)


def test_paper_configuration_holds_the_papers_numbers():
    paper = Configuration.read(CONFIGS / "paper.json")
    assert paper.detector.mixup == 0.6 and paper.detector.epochs == 300
    assert (paper.classifiers.optimiser, paper.classifiers.batch, paper.classifiers.weight_decay) == ("sgd", 128, 1e-4)
    assert set(paper.classifiers.learning_rate.values()) == {1e-3}
    assert paper.classifiers.expanded_classes == ("OBHT", "OMHT")


def test_what_is_written_is_read_back_whole(tmp_path: Path):
    configuration = Configuration.read(CONFIGS / "phantom.json")
    configuration.write(tmp_path / "configuration.json")
    assert Configuration.read(tmp_path / "configuration.json") == configuration
    assert set(json.loads((tmp_path / "configuration.json").read_text())["detector"]) >= {"epochs", "phase_dropout", "learning_rate"}


def test_networks_of_different_splits_are_no_run(tmp_path: Path):
    first = Configuration.read(CONFIGS / "phantom.json")
    for name, configuration in (("detector", first), ("classifiers/vit", dataclasses.replace(first, name="other"))):
        (tmp_path / name).mkdir(parents=True)
        configuration.write(tmp_path / name / "configuration.json")
    assert configuration_of_run(tmp_path) == first
    dataclasses.replace(first, seed=first.seed + 1).write(tmp_path / "classifiers" / "vit" / "configuration.json")
    with pytest.raises(InputError, match="vit"):
        configuration_of_run(tmp_path)


@pytest.mark.parametrize("text", ['{"detector": {"epoch": 3}}', '{"detectors": {}}', "[]", "not json"])
def test_unknown_settings_are_refused(tmp_path: Path, text: str):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c\.json"):
        Configuration.read(tmp_path / "c.json")


def test_a_run_keeps_its_configuration_where_none_is_given(tmp_path: Path):
    arguments = argparse.Namespace(config=None, run=tmp_path)
    assert chosen_configuration(arguments).name == "phantom"
    dataclasses.replace(Configuration(), name="own").write(tmp_path / "configuration.json")
    assert chosen_configuration(arguments).name == "own"
    dataclasses.replace(Configuration(), name="other").write(tmp_path / "other.json")
    arguments.config = tmp_path / "other.json"
    assert chosen_configuration(arguments).name == "other"
