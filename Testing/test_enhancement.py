"""Brightness of organs on drawn abdomens of any size and on real CT."""

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib.enhancement import measure_enhancement
from PediatricLiverDxLib.hounsfield import canonical_hu
from PediatricLiverDxLib.vocabulary import PHASES
from synthetic_ct import ORGANS, abdomen, as_image

REAL = Path(__file__).resolve().parents[2] / "shared" / "ct" / "totalsegmentator"


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("millimetres", [1.2, 3.5], ids=["newborn", "adult"])
def test_organs_are_found_and_the_phase_is_the_likeliest(phase, millimetres):
    measured = measure_enhancement(as_image(abdomen(phase), spacing=(millimetres, millimetres, 1.5 * millimetres)))
    liver, aorta, portal, kidney = ORGANS[phase]
    assert measured.liver == pytest.approx(liver, abs=6)
    assert measured.aorta == pytest.approx(aorta, abs=20)
    assert measured.kidney == pytest.approx(kidney, abs=15)
    assert measured.portal == pytest.approx(portal, abs=30)
    scores = measured.likelihoods()
    assert max(scores, key=scores.get) == phase


def test_nothing_is_found_in_a_ball():
    _, y, x = np.mgrid[:20, :40, :40]
    ball = np.where((x - 20) ** 2 + (y - 20) ** 2 < 150, 40, -1000).astype(np.int16)
    measured = measure_enhancement(as_image(ball))
    assert math.isnan(measured.aorta)
    assert math.isnan(measured.kidney)


def test_air_alone_measures_nothing():
    assert not measure_enhancement(as_image(np.full((8, 32, 32), -1000, np.int16))).found


@pytest.mark.parametrize(("name", "phase"), [("example_ct", "PC"), ("example_ct_sm", "PC"), ("aorta_report_ct_cropped", "AP")])
def test_real_ct(name, phase):
    path = REAL / f"{name}.nii.gz"
    if not path.exists():
        pytest.skip("the real CT beside the repository is missing")
    scores = measure_enhancement(canonical_hu(sitk.ReadImage(str(path)), name)[0]).likelihoods()
    best = max(scores, key=scores.get)
    assert best == phase
    assert scores[best] - max(score for other, score in scores.items() if other != best) > 2
