"""The worker: a process that is spoken to as the panel will, and that must neither die, nor mix its answers, nor leave volumes behind."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import SimpleITK as sitk
from conftest import LESION_BOX, rewrite_hashes
from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.diagnosis import diagnose, lesion_map
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.private_folder import PREFIX, make_private_folder, remove_abandoned
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import OUTCOMES, PHASES, InputError
from PediatricLiverDxLib.volumes import Grid
from PediatricLiverDxLib.worker_requests import read_line, request_of, roi_document

SCHEMA = json.loads(resources.files("PediatricLiverDxLib").joinpath("result.schema.json").read_text(encoding="utf-8"))

#: Seconds in which anything here is answered on a busy machine.
PATIENCE = 180


class Client:
    """Start a worker and speak with it, as the panel does."""

    def __init__(self, temporary: Path, written_before: bytes = b"", **environment: str) -> None:
        self.temporary, self.log = temporary, temporary / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "PediatricLiverDxLib.cli", "worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1", **environment},
            )
        self.write(written_before)
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.ready = self.receive()["ready"]
        self._ids = 0

    def _listen(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def receive(self) -> dict:
        """Return the next answer; every line of standard output has to be one."""
        line = self._lines.get(timeout=PATIENCE).decode("ascii")
        assert line, f"the worker has ended: {self.log.read_text(encoding='utf-8')}"
        answer = json.loads(line)
        assert len(answer) == 2 and "id" in answer and {*answer} < {"id", "ready", "progress", "result", "error"}
        return answer

    def write(self, line: bytes) -> None:
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def send(self, name: str, **body: object) -> int:
        self._ids += 1
        self.write(json.dumps({"id": self._ids, name: body}, default=str).encode() + b"\n")
        return self._ids

    def answer_to(self, id: int | None) -> tuple[dict, list[dict]]:
        """Wait for the result or error of a request; also return its progress."""
        progress = []
        while True:
            answer = self.receive()
            assert answer["id"] == id, answer
            if "progress" not in answer:
                return answer, progress
            progress.append(answer["progress"])

    def ask(self, name: str, **body: object) -> dict:
        answer, _ = self.answer_to(self.send(name, **body))
        return answer

    def result(self, name: str, **body: object) -> dict:
        answer = self.ask(name, **body)
        assert "result" in answer, answer
        return answer["result"]

    def refused(self, name: str, **body: object) -> str:
        """Expect an error of kind input with one sentence, and return the sentence."""
        error = self.ask(name, **body)["error"]
        assert error["kind"] == "input" and error["message"].endswith(".") and "\n" not in error["message"], error
        return error["message"]

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A worker for all tests that do not end it."""
    made = Client(tmp_path_factory.mktemp("worker"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def files(tiny_study: Path) -> dict[str, Path]:
    return {phase: tiny_study / f"{phase}.nrrd" for phase in PHASES}


@pytest.fixture(scope="module")
def moved(files: dict[str, Path]) -> Roi:
    """The box of the drawn lesion, a few millimetres away."""
    x0, y0, z0, x1, y1, z1 = LESION_BOX
    grid = Grid.of(sitk.ReadImage(str(files["PVP"])))
    return Roi.from_index_box(grid, (x0 + 2, y0 - 1, z0, x1 + 1, y1, z1 + 1), id="1", source="radiologist")


def without_times(diagnosis: dict) -> dict:
    return {key: value for key, value in diagnosis.items() if key != "timings_s"}


# what is computed ---------------------------------------------------------------------------------------------------------


def test_a_moved_roi_on_the_warm_exam_gives_what_a_cold_diagnosis_gives(client, files, tiny_bundle, networks, moved, tmp_path):
    request = {"files": files, "bundle": tiny_bundle, "output": tmp_path / "out", "report": False, "scene": False}
    cold, progress = client.answer_to(client.send("diagnose", **request))
    assert list(dict.fromkeys(said["stage"] for said in progress))[:2] == ["read", "align"]
    assert {"detect", "classify", "gate", "write"} <= {said["stage"] for said in progress}
    assert all(0 <= said["fraction"] <= 1 and said["text"] for said in progress)
    cold = cold["result"]
    assert cold["warm"] == {"exam": False, "bundle": False} and cold["rois"] == {}
    assert cold["files"] == ["cam_L1.nrrd", "result.json", "roi_L1.mrk.json"]
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8")) == cold["diagnosis"]

    warm = client.result("diagnose", **request, rois=[{**roi_document(moved), "id": "node 7"}])
    assert warm["warm"] == {"exam": True, "bundle": True} and warm["rois"] == {"L1": "node 7"}
    assert warm["diagnosis"]["timings_s"].keys() == {"classify", "gate", "write"}
    exam = read_exam(files=files)
    expected = diagnose(exam, align(exam), networks, rois=[moved])
    assert without_times(warm["diagnosis"]) == without_times(json.loads(json.dumps(expected.to_dict())))
    cam = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "cam_L1.nrrd")))
    assert np.array_equal(cam, expected.lesions[0].cam.array)
    assert warm["diagnosis"]["lesions"] != cold["diagnosis"]["lesions"]
    for result in (cold, warm):
        jsonschema.validate(result["diagnosis"], SCHEMA)


def test_detected_rois_are_those_of_the_diagnosis_and_can_be_sent_back(client, files, tiny_bundle):
    found = client.result("detect", files=files, bundle=tiny_bundle)
    whole = client.result("diagnose", files=files, bundle=tiny_bundle)["diagnosis"]["lesions"]
    assert [roi["score"] for roi in found["rois"]] == pytest.approx([lesion["detection_score"] for lesion in whole])
    back = client.result("diagnose", files=files, bundle=tiny_bundle, rois=found["rois"])["diagnosis"]["lesions"]
    assert back == whole


def test_only_the_changed_one_of_two_boxes_is_classified_again(client, files, tiny_bundle, moved):
    other = {"center_ras_mm": [v + 25 for v in moved.center_ras_mm], "size_mm": [20, 20, 20]}
    request = {"files": files, "bundle": tiny_bundle}
    client.result("diagnose", **request, rois=[roi_document(moved), other])
    both = [roi_document(moved), {**other, "size_mm": [24, 20, 20]}]
    answer, progress = client.answer_to(client.send("diagnose", **request, rois=both))
    assert {said["text"] for said in progress if said["stage"] == "classify"} == {"Classifying lesion 2 of 2"}
    client.result("diagnose", **request, rois=[])  # which lets go of both
    again, progress = client.answer_to(client.send("diagnose", **request, rois=both))
    assert {said["text"] for said in progress if said["stage"] == "classify"} == {f"Classifying lesion {n} of 2" for n in (1, 2)}
    assert without_times(again["result"]["diagnosis"]) == without_times(answer["result"]["diagnosis"])


def test_a_map_for_another_outcome_comes_from_what_the_networks_said_already(client, files, tiny_bundle, networks, moved, tmp_path):
    request = {"files": files, "bundle": tiny_bundle}
    lesion = client.result("diagnose", **request, rois=[roi_document(moved)], output=tmp_path / "out", scene=False, report=False)
    lesion = lesion["diagnosis"]["lesions"][0]
    # as the panel sends it: the box as result.json holds it, numbers rounded
    box = {key: lesion["roi"][key] for key in ("center_ras_mm", "size_mm", "axes_ras", "source")}
    exam = read_exam(files=files)
    maps = {}
    for of in OUTCOMES:
        answer, progress = client.answer_to(client.send("map", **request, roi=box, of=of, output=tmp_path / "maps" / f"{of}.nrrd"))
        assert answer["result"] == {"file": f"{of}.nrrd", "warm": {"exam": True, "bundle": True}}
        assert not progress, "it was classified again"
        maps[of] = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "maps" / f"{of}.nrrd")))
    for of, found in maps.items():
        assert np.allclose(found, lesion_map(align(exam), networks, moved, of).array, atol=1e-5), of
    decided = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / lesion["cam"])))
    assert np.array_equal(maps["malignant" if lesion["malignant_probability"] >= 0.5 else "benign"], decided)
    assert not np.allclose(maps["malignant"], maps["benign"])

    # of a box that was not classified yet, as in a scene that was saved
    other = {"center_ras_mm": [v + 25 for v in moved.center_ras_mm], "size_mm": [20, 20, 20]}
    answer, progress = client.answer_to(client.send("map", **request, roi=other, of="benign", output=tmp_path / "new.nrrd"))
    assert answer["result"]["file"] == "new.nrrd" and {said["text"] for said in progress} == {"Computing the heat map"}
    far = {**other, "center_ras_mm": [5000, 0, 0]}
    assert "outside" in client.refused("map", **request, roi=far, of="benign", output=tmp_path / "far.nrrd")
    (tmp_path / "file").touch()
    assert "handed over" in client.refused("map", **request, roi=box, of="HB", output=tmp_path / "file" / "map.nrrd")


def test_a_box_outside_is_left_out_and_the_others_keep_their_names(client, files, tiny_bundle, moved):
    far = {"id": "Jane Doe", "center_ras_mm": [900, 0, 0], "size_mm": [9, 9, 9]}
    result = client.result("diagnose", files=files, bundle=tiny_bundle, rois=[far, {**roi_document(moved), "id": "b"}])
    assert result["rois"] == {"L1": "b"}
    assert any("Left out" in warning for warning in result["diagnosis"]["warnings"]) and "Jane" not in json.dumps(result)
    assert "outside the volume" in client.refused("diagnose", files=files, bundle=tiny_bundle, rois=[far])


def test_changed_files_and_options_are_read_again_and_nothing_more_than_needed(client, files, tiny_bundle, tmp_path):
    own = {phase: Path(shutil.copy(path, tmp_path)) for phase, path in files.items()}

    def stages(**options: object) -> set[str]:
        return {*client.result("diagnose", files=own, bundle=tiny_bundle, **options)["diagnosis"]["timings_s"]}

    assert {"read", "align"} <= stages()
    assert not {"read", "align", "load"} & stages()
    assert "align" in (changed := stages(align=False)) and "read" not in changed
    own["AP"].write_bytes(own["AP"].read_bytes())
    assert {"read", "align"} <= stages(align=False)
    del own["DP"]
    assert {"read", "align"} <= stages(align=False)


def test_a_bundle_that_changed_on_disk_is_loaded_again(client, files, tiny_bundle, tmp_path):
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    assert client.result("detect", files=files, bundle=bundle)["warm"]["bundle"] is False
    assert client.result("detect", files=files, bundle=bundle)["warm"]["bundle"] is True
    card = bundle / "MODEL_CARD.md"
    before = card.read_bytes()
    card.write_bytes(b"#" + before)
    assert "MODEL_CARD.md" in client.refused("detect", files=files, bundle=bundle)
    card.write_bytes(before)
    assert client.result("detect", files=files, bundle=bundle)["warm"] == {"exam": True, "bundle": False}


# what cannot be used ------------------------------------------------------------------------------------------------------


def test_lines_that_are_no_requests_are_answered_and_survived(client, files, tiny_bundle):
    lines = [b"hello", b"[1, 2]", b"\xff\xfe", b"[" * 50_000, b"NaN", b'{"id": true, "quit": {}}', b"x" * (1 << 20), b"null"]
    for line in lines:
        client.write(line + b"\n")
        answer, _ = client.answer_to(None)
        assert answer["error"]["kind"] == "input" and len(answer["error"]["message"]) < 200
    client.write(b"\n  \n")  # nothing to answer
    assert "diagnose" in client.refused("dance")
    assert client.result("detect", files=files, bundle=tiny_bundle)["rois"]


ROI = {"center_ras_mm": [0, 0, 0], "size_mm": [10, 10, 10]}


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("diagnose", {}, "either files or study"),
        ("diagnose", {"files": {"PVP": "/a"}, "study": "/b"}, "either files or study"),
        ("diagnose", [], "an object as diagnose, got a list"),
        ("diagnose", {"files": {}}, "at least one phase"),
        ("diagnose", {"files": {"PVP": None}}, "at least one phase"),
        ("diagnose", {"files": {"XYZ": "/a"}}, "XYZ"),
        ("diagnose", {"files": {"Jane Doe 1.2.2019": "/a"}}, "another name"),
        ("diagnose", {"files": {"PVP": "a.nrrd"}}, "absolute path as PVP"),
        ("diagnose", {"files": {"PVP": 7}}, "absolute path as PVP, got a number"),
        ("diagnose", {"study": ""}, "absolute path as study"),
        ("diagnose", {"study": "/a\0b"}, "absolute path as study"),
        ("diagnose", {"study": "/a", "rois": {}}, "a list or null as rois"),
        ("diagnose", {"study": "/a", "rois": [7]}, "an object as ROI 1"),
        ("diagnose", {"study": "/a", "rois": [{"size_mm": [1, 1, 1]}]}, "center_ras_mm of ROI 1"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "size_mm": [1, 1]}]}, "size_mm of ROI 1"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "size_mm": [1, 1, float("nan")]}]}, "size_mm of ROI 1"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "size_mm": [1, 1, 10**400]}]}, "size_mm of ROI 1"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "size_mm": [1, 1, -1]}]}, "above 0"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "axes_ras": [[1, 0, 0]] * 3}]}, "perpendicular"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "score": 2}]}, "score of ROI 1"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "source": "me"}]}, "source of ROI 1"),
        ("diagnose", {"study": "/a", "rois": [{**ROI, "id": "x"}, {**ROI, "id": "x"}]}, "another id"),
        ("diagnose", {"study": "/a", "align": 1}, "true or false as align"),
        ("diagnose", {"study": "/a", "output": "out"}, "absolute path as output"),
        ("diagnose", {"study": "/a", "speed": 1}, "speed"),
        ("detect", {"study": "/a", "rois": []}, "rois"),
        ("map", {"study": "/a", "of": "HB", "output": "/b.nrrd"}, "ROI 1"),
        ("map", {"study": "/a", "roi": ROI, "of": "tumour", "output": "/b.nrrd"}, "malignant, benign, HH"),
        ("map", {"study": "/a", "roi": ROI, "of": "HB"}, ".nrrd file as output"),
        ("map", {"study": "/a", "roi": ROI, "of": "HB", "output": "/b"}, ".nrrd file as output"),
        ("cancel", {}, "of in cancel"),
        ("quit", {"now": True}, "now"),
    ],
)
def test_a_request_that_cannot_be_used_is_refused_with_a_sentence(name, body, words):
    id, document = read_line(json.dumps({"id": 5, name: body}).encode())
    assert id == 5
    with pytest.raises(InputError) as refused:
        request_of(document)
    assert words in str(refused.value) and str(refused.value).endswith(".") and len(str(refused.value)) < 250


def test_axes_in_another_order_are_the_same_box():
    roi = {"center_ras_mm": [1, 2, 3], "size_mm": [10, 20, 30], "axes_ras": [[0, -1, 0], [0, 0, 1], [1, 0, 0]]}
    (made,) = request_of({"id": 1, "diagnose": {"study": "/a", "rois": [roi]}}).rois
    assert made.size_mm == (30, 10, 20) and np.allclose(made.axes_ras, np.eye(3))


def test_files_that_cannot_be_used(client, files, tiny_bundle, tmp_path):
    client.refused("diagnose", files={"PVP": tmp_path / "none.nrrd"}, bundle=tiny_bundle)
    (tmp_path / "text.nrrd").write_text("no volume")
    message = client.refused("diagnose", files={"PVP": tmp_path / "text.nrrd"}, bundle=tiny_bundle)
    assert "text.nrrd" in message and str(tmp_path) not in message
    client.refused("diagnose", study=tmp_path / ("x" * 300), bundle=tiny_bundle)
    client.refused("diagnose", files=files, bundle=tmp_path)
    client.refused("diagnose", files=files, bundle=tmp_path / ("x" * 300))
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    assert "cannot be written" in client.refused("diagnose", files=files, bundle=tiny_bundle, output=out, scene=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "text.nrrd"]


def test_a_defect_is_answered_its_place_logged_and_survived(client, files, tiny_bundle, tmp_path):
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    model = onnx.load(bundle / "detector.onnx")
    (shape,) = (constant for constant in model.graph.initializer if constant.name == "shape3")
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([3, 1, 1]), "shape3"))  # which four slices cannot be made into
    onnx.save(model, bundle / "detector.onnx")
    rewrite_hashes(bundle, json.loads((bundle / "bundle.json").read_text(encoding="utf-8")))
    error = client.ask("detect", files=files, bundle=bundle)["error"]
    assert error["kind"] == "defect"
    log = client.log.read_text(encoding="utf-8")
    assert "detection.py" in log and str(tmp_path) not in log
    assert client.result("detect", files=files, bundle=tiny_bundle)["rois"]


# one after the other, and not at all --------------------------------------------------------------------------------------


def test_requests_wait_in_order_and_ids_are_not_used_twice_at_a_time(client, files, tiny_bundle, tmp_path):
    cold = {phase: Path(shutil.copy(path, tmp_path)) for phase, path in files.items()}
    first = client.send("detect", files=cold, bundle=tiny_bundle)
    second = client.send("detect", files=cold, bundle=tiny_bundle)
    client.write(json.dumps({"id": second, "detect": {"study": str(tmp_path)}}).encode() + b"\n")
    answers = []
    while len(answers) < 3:
        answer = client.receive()
        if "progress" not in answer:
            answers.append(answer)
    (refusal,) = (answer for answer in answers if "error" in answer)
    assert refusal["id"] == second and "id" in refusal["error"]["message"]
    assert [answer["id"] for answer in answers if "result" in answer] == [first, second]
    assert answers[-1]["result"]["warm"]["exam"]


def test_cancel_ends_what_runs_and_what_waits_and_leaves_the_rest_warm(client, files, tiny_bundle, tmp_path):
    large = {}
    for phase, path in files.items():
        image = sitk.ReadImage(str(path))
        size = [2 * n for n in image.GetSize()]
        spacing = [s / 2 for s in image.GetSpacing()]
        image = sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection())
        large[phase] = tmp_path / path.name
        sitk.WriteImage(image, str(large[phase]))
    running = client.send("diagnose", files=large, bundle=tiny_bundle, output=tmp_path / "out")
    waiting = client.send("detect", files=large, bundle=tiny_bundle)
    while (said := client.receive())["progress"]["stage"] != "align":
        assert said["id"] == running
    cancel_waiting, cancel_running = client.send("cancel", of=waiting), client.send("cancel", of=running)
    started, answers = time.monotonic(), {}
    while len(answers) < 4:
        answer = client.receive()
        if "progress" not in answer:
            answers[answer["id"]] = answer
    assert time.monotonic() - started < 10  # a second where nothing else runs
    assert [answers[id]["error"]["kind"] for id in (running, waiting)] == ["cancelled"] * 2
    assert answers[cancel_running]["result"] == {"of": running, "cancelled": True}
    assert answers[cancel_waiting]["result"] == {"of": waiting, "cancelled": True}
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".writing-*"))
    assert client.result("cancel", of=running)["cancelled"] is False
    timings = client.result("detect", files=large, bundle=tiny_bundle)["timings_s"]
    assert "align" in timings and "read" not in timings


NOISE = """
import os, threading, time

def speak():
    while not os.path.sameopenfile(1, 2):
        time.sleep(0.01)
    for _ in range(200):
        print("a word", flush=True)
        os.write(1, b"noise\\n")
        time.sleep(0.01)

threading.Thread(target=speak, daemon=True).start()
"""


def test_what_libraries_print_does_not_come_between_the_answers(files, tiny_bundle, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NOISE)
    client = Client(tmp_path, PYTHONPATH=str(tmp_path))
    assert client.result("detect", files=files, bundle=tiny_bundle)["rois"]
    client.end()
    log = client.log.read_text(encoding="utf-8")
    assert "a word\n" in log and "noise\n" in log


# the end ------------------------------------------------------------------------------------------------------------------


def private_folders(temporary: Path) -> list[Path]:
    return list(temporary.glob(f"{PREFIX}*"))


@pytest.mark.parametrize("way", ["end of input", "quit", "terminate"])
def test_the_worker_ends_at_once_and_takes_the_volumes_with_it(files, tiny_bundle, tmp_path, way):
    client = Client(tmp_path)
    folder = Path(client.ready["folder"])
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o077 == 0
    sent = {phase: Path(shutil.copy(path, folder)) for phase, path in files.items()}
    client.send("diagnose", files=sent, bundle=tiny_bundle, output=folder / "out")
    client.receive()  # it is at work
    started = time.monotonic()
    if way == "end of input":
        client.process.stdin.close()
    elif way == "quit":
        client.send("quit")
    else:
        client.process.send_signal(signal.SIGTERM)
    assert client.process.wait(PATIENCE) == (128 + signal.SIGTERM if way == "terminate" else 0)
    assert time.monotonic() - started < 10
    assert private_folders(tmp_path) == []
    assert client.log.read_text(encoding="utf-8") == ""


def test_a_request_that_comes_before_all_is_imported_waits_for_it(files, tiny_bundle, tmp_path):
    # in most starts, two threads that import numpy at a time end the process
    for n in range(3):
        (tmp_path / str(n)).mkdir()
        client = Client(tmp_path / str(n), written_before=b'{"id": "early", "cancel": {"of": 7}}\n')
        assert client.receive() == {"id": "early", "result": {"of": 7, "cancelled": False}}
        assert client.result("detect", files=files, bundle=tiny_bundle)["rois"]
        client.end()
        assert client.log.read_text(encoding="utf-8") == ""


def test_a_killed_worker_leaves_nothing_that_the_next_one_does_not_clear(files, tiny_bundle, tmp_path):
    killed, other = Client(tmp_path), Client(tmp_path)
    out = tmp_path / "out"
    sent = {phase: Path(shutil.copy(path, killed.ready["folder"])) for phase, path in files.items()}
    killed.send("diagnose", files=sent, bundle=tiny_bundle, output=out)
    killed.receive()
    killed.process.kill()
    killed.process.wait(PATIENCE)
    assert len(private_folders(tmp_path)) == 2
    client = Client(tmp_path)
    assert sorted(private_folders(tmp_path)) == sorted(Path(one.ready["folder"]) for one in (other, client))
    assert client.result("diagnose", files=files, bundle=tiny_bundle, output=out, scene=False, report=False)["files"]
    for one in (other, client):
        one.end()
    assert private_folders(tmp_path) == []


def test_a_reader_who_has_gone_ends_the_worker_with_its_input(files, tiny_bundle, tmp_path):
    client = Client(tmp_path)
    client.send("detect", files=files, bundle=tiny_bundle)
    client.receive()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, client.process.stdout.fileno())
    os.close(null)
    client.process.stdin.close()
    assert client.process.wait(PATIENCE) == 0
    assert private_folders(tmp_path) == []


def test_a_folder_in_use_or_in_the_making_is_not_abandoned(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"{PREFIX}made").mkdir()
    folder = make_private_folder()
    remove_abandoned(tmp_path)
    assert len(private_folders(tmp_path)) == 2
    folder.close()
    folder.close()
    assert [path.name for path in private_folders(tmp_path)] == [f"{PREFIX}made"]
