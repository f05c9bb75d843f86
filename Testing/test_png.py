"""PNGs: read back by another library, they hold what was put in."""

from __future__ import annotations

import base64

import numpy as np
import SimpleITK as sitk
from PediatricLiverDxLib.colours import cam_ramp
from PediatricLiverDxLib.png import data_uri, grey_png, ramp_png


def read(png: bytes, tmp_path) -> np.ndarray:
    (tmp_path / "image.png").write_bytes(png)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "image.png")))


def test_grey_comes_back_exactly(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (37, 53)) / 255
    np.testing.assert_array_equal(read(grey_png(image), tmp_path), np.round(image * 255))


def test_grey_outside_the_range_is_clipped(tmp_path):
    np.testing.assert_array_equal(read(grey_png(np.array([[-1.0, 0.5, 2.0]])), tmp_path), [[0, 128, 255]])


def test_ramp_comes_back_in_its_colours_and_clear_below_the_threshold(tmp_path):
    values = np.linspace(0, 1, 256).reshape(16, 16)
    rgba = read(ramp_png(values, cam_ramp(), 0.35, 0.6), tmp_path).reshape(256, 4)
    np.testing.assert_array_equal(rgba[:, :3], cam_ramp())
    assert not rgba[:89, 3].any()
    assert abs(int(rgba[90, 3]) - 0.3 * 255) <= 2
    assert rgba[255, 3] == round(0.6 * 255)
    assert (np.diff(rgba[90:, 3].astype(int)) >= 0).all()


def test_ramp_gets_lighter_all_the_way():
    assert (np.diff(cam_ramp() @ [0.2126, 0.7152, 0.0722]) > 0).all()


def test_data_uri_holds_the_png():
    png = grey_png(np.zeros((2, 2)))
    head, _, body = data_uri(png).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == png
