"""report.html: one file that loads nothing, says what the Diagnosis says, and shows slices the way radiologists read them."""

from __future__ import annotations

import base64
import re
import tempfile
import time
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from example_diagnosis import example_aligned, example_diagnosis
from PediatricLiverDxLib.pictures import SlicePictures
from PediatricLiverDxLib.report import report_html, write_report
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import PHASES
from PediatricLiverDxLib.wording import RESEARCH_ONLY

#: Tags that HTML never closes.
VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """Read a page, hold its tags and visible text, and insist that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [a for t, a in self.tags if t == tag and all(value in a.get(key, "").split() for key, value in wanted.items())]


@pytest.fixture(scope="module")
def exam():
    aligned = example_aligned()
    return aligned, example_diagnosis(aligned, 2)


@pytest.fixture(scope="module")
def page(exam):
    return Page(report_html(exam[1], exam[0]))


def picture(view: str) -> np.ndarray:
    """Decode the first picture of a piece of HTML."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        path.write_bytes(base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', view).group(1)))
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_nothing_is_loaded_from_elsewhere(exam):
    html = report_html(exam[1], exam[0])
    page = Page(html)
    for _, attributes in page.tags:
        for key in ("src", "href", "action", "data"):
            target = attributes.get(key)
            assert target is None or target.startswith(("data:image/png;base64,", "#"))
    assert not page.all("script")
    assert "url(" not in html
    assert "@import" not in html


def test_says_what_was_found(page):
    for words in (
        "2 liver lesions found",
        "Probably malignant (93 %), most likely hepatoblastoma (90 %).",
        "Probably benign (88 %), most likely hepatic hemangioma (57 %).",
        "70 × 59 × 75 mm, right of the midline",
        "The arterial phase speaks most, for malignancy",
        "among 100 lesions with such a value, about 93 are malignant",
        "Slice thickness 6 mm",
        "file name 'AP'",
        "moved onto the reference",
        "DenseNet121",
        "0" * 64,
    ):
        assert words in page.text, words


def test_warns_on_top_whatever_the_result(page, exam):
    assert RESEARCH_ONLY in page.text[:300]
    assert exam[1].bundle.intended_use in page.text[:400]


@pytest.mark.parametrize(
    ("verdict", "look", "words"),
    [("trust", "trust", "resembles"), ("look", "look", "Look twice"), ("do not trust", "stop", "Do not trust this result")],
)
def test_gate_stands_before_the_result(exam, verdict, look, words):
    page = Page(report_html(example_diagnosis(exam[0], 1, verdict), exam[0]))
    assert page.all("div", class_="gate", role="status")[0]["class"] == f"gate {look}"
    assert page.text.index(words) < page.text.index("Probably malignant")


def test_three_slices_in_four_phases_twice_for_each_lesion(page):
    # per lesion: 12 whole slices, 12 close-ups with an overlay each, 1 thumbnail
    assert len(page.all("div", class_="view")) == 2 * (12 + 12 + 1)
    assert len(page.all("img", class_="cam")) == 2 * 12
    assert len(page.all("svg", class_="chart")) == 2 * 2


def test_weak_attention_is_shown_as_well_as_strong(exam):
    aligned, diagnosis = exam
    weak = replace(diagnosis.lesions[0], cam_slices=diagnosis.lesions[0].cam_slices * 0.2)
    pages = [report_html(replace(diagnosis, lesions=(lesion,)), aligned) for lesion in (diagnosis.lesions[0], weak)]
    strong_map, weak_map = (picture(re.search(r'<img class="cam"[^>]+>', html).group()).astype(int) for html in pages)
    assert np.abs(strong_map - weak_map).max() <= 2
    nothing = replace(weak, cam_slices=np.zeros_like(weak.cam_slices))
    html = report_html(replace(diagnosis, lesions=(nothing,)), aligned)
    assert not picture(re.search(r'<img class="cam"[^>]+>', html).group())[..., 3].any()


def test_absent_phases_are_shown_as_not_acquired():
    aligned = example_aligned(present=("AP", "PVP"))
    page = Page(report_html(example_diagnosis(aligned, 1), aligned))
    assert len(page.all("div", class_="absent")) == 2 * 3 * 2
    assert "Delayed not acquired" in page.text
    assert "2 of 4 contrast phases (arterial, portal venous)" in page.text


def test_every_picture_and_chart_has_words(page):
    for image in page.all("img"):
        assert image["alt"] or "cam" in image["class"]
    assert all(chart["aria-label"] for chart in page.all("svg", class_="chart"))
    alts = [image["alt"] for image in page.all("img") if image["alt"].startswith("Close-up")]
    assert len(set(alts)) == len(alts)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    assert {label["for"] for label in page.all("label")} <= set(ids)
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)


def test_no_lesion_is_said_with_what_it_means(exam):
    page = Page(report_html(example_diagnosis(exam[0], 0, "trust"), exam[0]))
    assert "No liver lesion found" in page.text
    assert "does not rule one out" in page.text
    assert len(page.all("div", class_="view")) == 3 * 4
    assert not page.all("rect", class_="box")


def test_words_from_outside_stay_words(exam):
    aligned, diagnosis = exam
    attack = '<script>alert("x")</script> & "quoted" $title ${body}'
    phases = dict(diagnosis.exam.phases)
    phases["AP"] = replace(phases["AP"], source=attack, recognised=attack)
    hostile = replace(
        diagnosis,
        warnings=(attack,),
        gate=replace(diagnosis.gate, reasons=(attack,)),
        bundle=replace(diagnosis.bundle, name=attack, intended_use=attack, trained_on=attack),
        exam=replace(diagnosis.exam, phases=phases),
        timings_s={attack: 1.0},
    )
    page = Page(report_html(hostile, aligned))
    assert not page.all("script")
    assert page.text.count(attack) >= 7


def test_patients_right_is_on_the_left_and_front_is_up(exam):
    aligned, diagnosis = exam
    hu = aligned.hu.copy()
    hu[:] = -1024
    hu[:, :, 10:70, 8:88] = 60
    grid = aligned.grid
    at = np.round(grid.ras_to_index(grid.index_to_ras(np.array([[48.0, 40.0, 12.0]])) + [[60.0, 60.0, 0.0]])[0]).astype(int)
    hu[:, at[2] - 2 : at[2] + 3, at[1] - 4 : at[1] + 5, at[0] - 4 : at[0] + 5] = 190
    pictures = SlicePictures(replace(aligned, hu=hu), diagnosis.lesions)
    image = picture(pictures.views(int(at[2]), diagnosis.lesions[0])["PVP"])
    rows, columns = np.nonzero(image > 240)
    assert columns.mean() < image.shape[1] * 0.4
    assert rows.mean() < image.shape[0] * 0.4


def test_box_is_drawn_around_what_it_encloses(exam):
    aligned, diagnosis = exam
    hu = np.full_like(aligned.hu, -1024)
    hu[:, :, 6:74, 8:88] = 20
    hu[:, 8:14, 30:44, 20:38] = 190
    roi = Roi.from_index_box(aligned.grid, (20, 30, 8, 38, 44, 14), id="L1")
    lesion = replace(diagnosis.lesions[0], roi=roi, slices=(8, 10, 13))
    view = SlicePictures(replace(aligned, hu=hu), (lesion,)).views(10, lesion)["AP"]
    box = re.search(r'<rect class="box" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', view)
    x, y, width, height = map(float, box.groups())
    image = picture(view)
    x, y, width, height = (value * image.shape[1] / 320 for value in (x, y, width, height))
    rows, columns = np.nonzero(image > 215)
    assert columns.min() == pytest.approx(x, abs=1.5)
    assert columns.max() + 1 == pytest.approx(x + width, abs=1.5)
    assert rows.min() == pytest.approx(y, abs=1.5)
    assert rows.max() + 1 == pytest.approx(y + height, abs=1.5)


def test_height_is_named_as_slicer_shows_it(exam):
    aligned, diagnosis = exam
    pictures = SlicePictures(aligned, diagnosis.lesions)
    assert pictures.height_label(0) == "slice 1 of 24, S 20.0 mm"
    below = replace(aligned, grid=replace(aligned.grid, origin_lps=(0.0, 0.0, -30.5)))
    assert SlicePictures(below, diagnosis.lesions).height_label(0) == "slice 1 of 24, I 30.5 mm"


def test_thin_lesion_shows_each_slice_once(exam):
    aligned, diagnosis = exam
    thin = replace(diagnosis.lesions[0], slices=(12, 12, 12))
    page = Page(report_html(replace(diagnosis, lesions=(thin,)), aligned))
    assert len(page.all("div", class_="view")) == 4 + 4 + 1


def test_oblique_exam_is_drawn(tmp_path):
    aligned = example_aligned(oblique=True, present=("PVP", "DP"))
    write_report(example_diagnosis(aligned, 2), aligned, tmp_path / "report.html")
    Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_twelve_lesions_stay_a_small_file_made_at_once():
    aligned = example_aligned((256, 256, 64))
    diagnosis = example_diagnosis(aligned, 1)
    many = replace(diagnosis, lesions=tuple(replace(diagnosis.lesions[0], id=f"L{n + 1}") for n in range(12)))
    assert len(report_html(many, aligned)) < 6_000_000
    started = time.process_time()
    assert len(report_html(diagnosis, aligned)) < 2_000_000
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_text_stands_out_from_its_background(mode):
    css = resources.files("PediatricLiverDxLib").joinpath("report.html").read_text(encoding="utf-8")
    at = {"light": 0, "dark": css.index("prefers-color-scheme: dark"), "print": css.index("@media print")}[mode]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6});", css[at : css.index("}", at)]))

    def luminance(name: str) -> float:
        digits = colours[name].lstrip("#")
        digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
        channels = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    def contrast(text: str, back: str) -> float:
        light, dark = sorted((luminance(text), luminance(back)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for text in ("ink", "soft", "malignant", "benign"):
        assert contrast(text, "card") >= 4.5, text
    assert contrast("soft", "page") >= 4.5
    assert contrast("soft", "well") >= 4.5
    for verdict in ("ok", "look", "stop"):
        assert contrast(verdict, f"{verdict}-back") >= 4.5, verdict
        assert contrast("ink", f"{verdict}-back") >= 4.5, verdict
    for mark in ("for", "against"):
        assert contrast(mark, "card") >= 3, mark


def test_phases_keep_their_order(page):
    heads = re.findall("(Pre-contrast|Arterial|Portal venous|Delayed) L 4", page.text)
    assert heads == ["Pre-contrast", "Arterial", "Portal venous", "Delayed"] * 4
    assert len(PHASES) == 4
