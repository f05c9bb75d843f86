"""Warnings are sentences that know whether a reader must look."""

import json
import pickle

from PediatricLiverDxLib.notices import Notice, about, grave


def test_a_notice_is_its_sentence():
    assert Notice("Slices are thick.") == "Slices are thick."
    assert json.dumps([grave("Look.")]) == '["Look."]'


def test_gravity_survives_pickling_and_a_label():
    assert pickle.loads(pickle.dumps(grave("Look."))).grave
    assert about("AP", grave("look.")).grave
    assert about("AP", grave("look.")) == "AP: look."


def test_plain_warnings_are_not_grave():
    assert not Notice("Slices are thick.").grave
    assert not about("AP", "slices are thick.").grave
