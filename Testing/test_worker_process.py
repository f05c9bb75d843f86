"""The panel's side of the worker: real processes in Qt's event loop, which may die, be killed, or talk nonsense at any time."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PediatricLiverDxLib.private_folder import PREFIX
from PediatricLiverDxLib.vocabulary import PHASES, InputError

pytest.importorskip("PySide6")
pytest.importorskip("slicer")

#: Seconds in which anything here happens on a busy machine.
PATIENCE = 60

#: Starts the real worker after a line of one's own.
REAL = "import sys; sys.argv[1:] = ['worker']; {before}; from PediatricLiverDxLib.cli import program; program()"

#: A worker of one's own: says that it is ready in the folder argv[1], then does what follows.
FAKE = """
import json, os, sys, time
from pathlib import Path
def say(text):
    os.write(1, text.encode())
def hear():
    return json.loads(sys.stdin.readline())
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
(folder / "PVP.nrrd").write_text("voxels")
ready = json.dumps({"id": None, "ready": {"protocol": 1, "software": "x", "folder": str(folder), "process": os.getpid()}}) + "\\n"
"""

@pytest.fixture(scope="module")
def qt() -> ModuleType:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from host import i18n, qt

    sys.modules.setdefault("qt", qt)
    sys.modules.setdefault("slicer.i18n", i18n)
    qt.QApplication.instance() or qt.QApplication([])
    return qt

class Panel:
    """Own a WorkerProcess and write down what it says."""

    def __init__(self, qt: ModuleType, temporary: Path, command: Sequence[str] | None = None) -> None:
        from PediatricLiverDxLib.panel.worker_process import WorkerProcess

        self.qt, self.temporary = qt, temporary
        self.owner = qt.QWidget()
        self.said: list[tuple] = []
        self.folders: list[Path] = []
        self.worker = WorkerProcess(self.owner, lambda sentence: self.said.append(("died", None, sentence)), command)

    def request(self, name: str = "detect", **body: Any) -> int:
        number = 0

        def say(kind: str) -> Callable[..., None]:
            return lambda *words: self.said.append((kind, number, *words))

        before = len(self.said)
        number = self.worker.request(name, body, on_progress=say("progress"), on_result=say("result"), on_error=say("error"))
        assert len(self.said) == before
        return number

    def until(self, happened: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        end = time.monotonic() + seconds
        while not (value := happened()):
            assert time.monotonic() < end, self.said
            self.qt.QApplication.processEvents()
            time.sleep(0.002)
        return value

    def answers(self, number: int) -> list[tuple]:
        return [said for said in self.said if said[1] == number and said[0] != "progress"]

    def answer(self, number: int) -> tuple:
        """Wait for the answer, and some more for a second one that must not come."""
        self.until(lambda: self.answers(number))
        self.idle(0.1)
        (answer,) = self.answers(number)
        return answer

    def progress(self, number: int, stage: str = "") -> None:
        self.until(lambda: [said for said in self.said if said[:2] == ("progress", number) and stage in ("", said[2])])

    def folder(self) -> Path:
        found: list[Path] = []
        self.worker.when_ready(found.append)
        self.until(lambda: found)
        return found[0]

    def idle(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def private_folders(self) -> list[Path]:
        return list(self.temporary.glob(f"{PREFIX}*"))

@pytest.fixture
def panel(qt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Panel]]:
    """Make panels whose worker has its temporary files under tmp_path / "tmp"."""
    (tmp_path / "tmp").mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "tmp"))
    monkeypatch.setattr("slicer.app", None, raising=False)
    made: list[Panel] = []

    def make(command: Sequence[str] | None = None) -> Panel:
        made.append(Panel(qt, tmp_path / "tmp", command))
        return made[-1]

    yield make
    for one in made:
        one.worker.stop()

@pytest.fixture
def fake(panel: Callable[..., Panel], tmp_path: Path) -> Callable[[str], Panel]:
    """Make a panel with a worker of one's own, which says `ready` when it likes."""
    numbers = itertools.count(1)
    return lambda script: panel([sys.executable, "-c", FAKE + script, str(tmp_path / "tmp" / f"{PREFIX}fake-{next(numbers)}")])

@pytest.fixture(scope="module")
def exam(tiny_study: Path, tiny_bundle: Path) -> dict[str, Any]:
    """What a request needs."""
    return {"files": {phase: str(tiny_study / f"{phase}.nrrd") for phase in PHASES}, "bundle": str(tiny_bundle)}

def lives(number: int) -> bool:
    try:
        os.kill(number, 0)
        state = Path(f"/proc/{number}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

def number_of(panel: Panel) -> int:
    """Return the process number of the worker itself."""
    panel.folder()
    return panel.worker._process._number

# what is computed ---------------------------------------------------------------------------------------------------------

def test_requests_are_answered_in_order_and_the_second_finds_the_exam_warm(panel, exam, tmp_path):
    one = panel()
    first = one.request("diagnose", **exam, output=str(tmp_path / "out"), report=False, scene=False)
    second = one.request("detect", **exam)
    assert one.worker.is_busy and one.worker.is_running
    answer, found = one.answer(first), one.answer(second)
    assert answer[2]["diagnosis"]["lesions"] and (tmp_path / "out" / "result.json").exists()
    assert found[2]["rois"] and found[2]["warm"] == {"exam": True, "bundle": True}
    said = [words for words in one.said if words[0] == "progress" and words[1] == first]
    stages = list(dict.fromkeys(stage for _, _, stage, _, _ in said))
    assert stages == [stage for stage in ("load", "read", "align", "detect", "classify", "gate", "write") if stage in stages] != []
    assert all(0 <= fraction <= 1 and text for _, _, _, fraction, text in said)
    assert [words[1] for words in one.said if words[0] == "result"] == [first, second]
    assert not one.worker.is_busy and one.worker.is_running
    assert one.folder() in one.private_folders()

def test_a_request_that_cannot_be_used_is_answered_with_the_sentence_of_the_worker(panel, exam):
    one = panel()
    kind, sentence = one.answer(one.request("detect", files={"PVP": "none.nrrd"}))[2:]
    assert kind == "input" and sentence.endswith(".")
    kind, sentence = one.answer(one.request("diagnose", **exam, rois=[{"id": "x" * 100}] * 20_000))[2:]
    assert kind == "input" and "ROIs" in sentence

# cancel -------------------------------------------------------------------------------------------------------------------

def test_cancel_ends_a_request_within_a_second_and_the_next_one_works(panel, exam):
    one = panel()
    one.folder()
    number = one.request("diagnose", **exam)
    one.progress(number)
    started = time.monotonic()
    one.worker.cancel(number)
    one.worker.cancel(number)
    one.until(lambda: one.answers(number))
    assert time.monotonic() - started < 2  # half of it for a busy machine
    assert one.answer(number)[2] == "cancelled"
    assert one.answer(one.request("detect", **exam))[2]["rois"]
    one.worker.cancel(number)
    one.worker.cancel(4711)
    one.idle(0.05)
    assert len(one.said) == len({id(said) for said in one.said})

def test_what_is_cancelled_before_the_worker_is_ready_is_never_sent(panel, exam):
    one = panel()
    number = one.request("diagnose", **exam)
    one.worker.cancel(number)
    assert one.answer(number)[2] == "cancelled" and len(one.said) == 1
    one.folder()
    assert one.answer(one.request("detect", **exam))[2]["warm"] == {"exam": False, "bundle": False}

DEAF = """
say(ready)
first = hear()
say(json.dumps({"id": first["id"], "progress": {"stage": "align", "fraction": 0.5, "text": "Aligning"}}) + "\\n")
time.sleep(1000)
"""

def test_a_worker_that_does_not_hear_a_cancel_is_killed_and_its_volumes_go_with_it(fake):
    one = fake(DEAF)
    number, process, folder = one.request(), number_of(one), one.folder()
    waiting = one.request()
    one.progress(number)
    started = time.monotonic()
    one.worker.cancel(number)
    assert one.answer(number)[2] == "cancelled" and 0.9 < time.monotonic() - started < 2.5
    assert one.answer(waiting)[2] == "stopped"
    assert not lives(process) and not folder.exists() and not one.worker.is_running
    again = one.request()
    one.progress(again)  # another one, and it works
    assert number_of(one) != process

@pytest.mark.parametrize("launched", [False, True])
def test_a_worker_that_hangs_before_it_is_ready_can_be_given_up(panel, tmp_path, launched):
    hang = f"import os, time; open({str(tmp_path / 'number')!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    script = tmp_path / "PythonSlicer"
    script.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n')
    script.chmod(0o755)
    one = panel([str(script) if launched else sys.executable, "-c", hang])
    called: list[Path] = []
    one.worker.when_ready(called.append)
    one.until(lambda: (tmp_path / "number").exists() and (tmp_path / "number").read_text())
    number = int((tmp_path / "number").read_text())
    one.worker.abandon_start()
    assert not one.worker.is_running
    one.until(lambda: not lives(number), 5)
    one.worker._command = None  # what held it up has gone
    one.worker.when_ready(called.append)
    one.until(lambda: called)
    one.worker.abandon_start()
    assert len(called) == 1 and one.said == [] and one.worker.is_running


def test_a_worker_that_is_never_ready_is_ended_with_a_sentence(fake, monkeypatch):
    monkeypatch.setattr("PediatricLiverDxLib.panel.json_process.READY_MS", 300)
    one = fake("time.sleep(1000)")
    one.worker.start()
    one.until(lambda: one.said)
    assert one.said[0][0] == "died" and "did not start" in one.said[0][2] and not one.worker.is_running


MANY = """
say(ready)
id = hear()["id"]
for n in range(500):
    say(json.dumps({"id": id, "progress": {"stage": "align", "fraction": n / 500, "text": "Aligning"}}) + "\\n")
time.sleep(1)
say(json.dumps({"id": id, "result": {}}) + "\\n")
hear()
"""


def test_of_many_steps_only_the_newest_are_told(fake):
    one = fake(MANY)
    number = one.request()
    started = time.monotonic()
    one.answer(number)
    said = [words for words in one.said if words[0] == "progress"]
    assert 0 < len(said) <= 2 + (time.monotonic() - started) / 0.1 and said[-1][3] == 499 / 500


# death --------------------------------------------------------------------------------------------------------------------

def test_a_worker_that_is_killed_answers_once_and_the_next_request_starts_another(panel, exam):
    one = panel()
    number, process, folder = one.request("diagnose", **exam), number_of(one), one.folder()
    (folder / "PVP.nrrd").write_text("voxels")
    one.progress(number)
    os.kill(process, signal.SIGKILL)
    kind, sentence = one.answer(number)[2:]
    assert kind == "stopped" and sentence.endswith(".") and "\n" not in sentence
    assert not folder.exists() and not one.worker.is_running
    assert one.answer(one.request("detect", **exam))[2]["rois"]
    assert [said[0] for said in one.said if said[0] == "died"] == []

def test_a_worker_that_dies_idle_is_told_once(panel):
    one = panel()
    os.kill(number_of(one), signal.SIGKILL)
    one.until(lambda: one.said)
    one.idle(0.1)
    assert [said[0] for said in one.said] == ["died"] and one.private_folders() == [] and not one.worker.is_running

def test_a_callback_may_start_the_next_request_or_stop_everything(panel, fake):
    one = fake(DEAF)
    one.folder()
    again: list[int] = []
    one.worker.request("detect", {}, on_result=lambda _: None, on_error=lambda *_: again.append(one.request()))
    two = fake(DEAF)
    errors: list[str] = []
    for _ in range(2):
        two.worker.request("detect", {}, on_result=lambda _: None, on_error=lambda kind, _: (errors.append(kind), two.worker.stop()))
    for panel in (one, two):
        os.kill(number_of(panel), signal.SIGKILL)
    one.until(lambda: again)
    one.progress(again[0])
    one.until(lambda: errors)
    one.idle(0.1)
    assert errors == ["stopped"]

@pytest.mark.parametrize("when", ["starting", "idle", "running", "deaf"])
def test_stop_leaves_no_process_and_no_folder_and_says_nothing(panel, fake, exam, when):
    one = fake(DEAF) if when == "deaf" else panel()
    process = 0
    if when == "starting":
        one.request("diagnose", **exam)
        launched = one.worker._process._process.processId()
    else:
        process = launched = number_of(one)
        one.folder()
    if when in ("running", "deaf"):
        one.progress(one.request("diagnose", **exam))
    before, started = len(one.said), time.monotonic()
    one.worker.stop()
    assert time.monotonic() - started < 3
    assert not lives(launched) and (not process or not lives(process))
    assert one.private_folders() == [] and not one.worker.is_running and not one.worker.is_busy
    one.idle(0.2)
    assert len(one.said) == before
    one.worker.stop()

# a launcher in between ----------------------------------------------------------------------------------------------------

@pytest.fixture
def launcher(panel: Callable[..., Panel], tmp_path: Path) -> Callable[[], Panel]:
    """Make a panel that starts the worker as PythonSlicer does: as the child of a program that stays and waits for it."""
    script = tmp_path / "PythonSlicer"
    script.write_text(f'#!/bin/sh\necho "a word of the launcher"\n"{sys.executable}" "$@"\ncode=$?\nexit $code\n')
    script.chmod(0o755)
    return lambda: panel([str(script), "-m", "PediatricLiverDxLib.cli", "worker"])

@pytest.mark.skipif(os.name == "nt", reason="the launcher of this test is a shell script")
@pytest.mark.parametrize("way", ["stop", "stop while running", "kill", "launcher killed", "starting"])
def test_a_launcher_leaves_no_worker_behind(launcher, exam, way):
    one = launcher()
    if way == "starting":
        one.worker.start()
        one.until(lambda: one.worker._process._process.processId())
        one.worker.stop()
        one.idle(0.1)
        one.until(lambda: not one.private_folders())
        return
    worker, launched = number_of(one), one.worker._process._process.processId()
    assert worker != launched and lives(worker) and lives(launched)
    if way != "stop":
        number = one.request("diagnose", **exam)
        one.progress(number)
    if way.startswith("stop"):
        one.worker.stop()
    elif way == "kill":
        one.worker._process.kill("The end.")
    else:
        os.kill(launched, signal.SIGKILL)
    if not way.startswith("stop"):
        assert one.answer(number)[2] == "stopped"
    one.until(lambda: not lives(worker) and not lives(launched), 5)
    assert one.private_folders() == []


# nonsense -----------------------------------------------------------------------------------------------------------------


def test_an_answer_in_pieces_is_one_answer(fake):
    one = fake("""
for character in "a word of a launcher\\n" + ready:
    say(character)
text = json.dumps({"id": hear()["id"], "result": {"rois": ["x" * 200_000]}}) + "\\n"
for start in range(0, len(text), 1000):
    say(text[start : start + 1000])
    time.sleep(0.001)
hear()
""")
    assert len(one.answer(one.request())[2]["rois"][0]) == 200_000


@pytest.mark.parametrize("line", ["Segmentation fault", "[1, 2]", "[" * 100_000])
def test_a_worker_that_talks_nonsense_is_ended_as_defective(fake, line):
    one = fake(f"say(ready); hear(); say({line!r} + '\\n'); time.sleep(1000)")
    number, process = one.request(), number_of(one)
    kind, sentence = one.answer(number)[2:]
    assert kind == "defect" and sentence.endswith(".")
    assert not lives(process) and one.private_folders() == []


def test_a_worker_of_another_version_is_not_used(fake):
    one = fake("say(ready.replace('\"protocol\": 1', '\"protocol\": 2')); time.sleep(1000)")
    kind, sentence = one.answer(one.request())[2:]
    assert kind == "stopped" and "version" in sentence


def test_a_worker_that_writes_much_to_its_log_is_not_held_up(fake):
    one = fake("""
say(ready)
id = hear()["id"]
for _ in range(100):
    os.write(2, b"x" * 65536)
say(json.dumps({"id": id, "result": {}}) + "\\n")
hear()
""")
    assert one.answer(one.request())[0] == "result"
    assert len(one.worker._process._log) < 100_000


# what cannot start --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("import tempfile; tempfile.tempdir = '/nowhere'", "temporary"),
        ("sys.modules['onnxruntime'] = None", "onnxruntime"),
        ("sys.exit(3)", "ended unexpectedly"),
    ],
)
def test_a_worker_that_cannot_work_says_why(panel, before, words):
    one = panel([sys.executable, "-c", REAL.format(before=before)])
    kind, sentence = one.answer(one.request(study="/nowhere"))[2:]
    assert kind == "stopped" and words in sentence and sentence.endswith(".") and "pediatric-liver-dx" not in sentence
    assert one.private_folders() == []


@pytest.mark.parametrize("broken", ["raise ImportError('DLL load failed')", "raise OSError('no such symbol')"])
def test_a_runtime_that_cannot_be_loaded_is_told_before_volumes_are_handed_over(panel, tmp_path, broken):
    (tmp_path / "broken" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "broken" / "onnxruntime" / "__init__.py").write_text(broken)
    begin = "import sys; sys.path.insert(0, sys.argv[1]); from PediatricLiverDxLib.cli import main; sys.exit(main(['worker']))"
    one = panel([sys.executable, "-c", begin, str(tmp_path / "broken")])
    codes, folders = [], []
    one.worker.when_ready(folders.append)
    one.worker._process._process.finished.connect(lambda code, *_: codes.append(code))
    one.until(lambda: one.said)
    assert [said[0] for said in one.said] == ["died"] and "onnxruntime" in one.said[0][2]
    assert folders == [] and codes == [2] and one.private_folders() == []


def test_a_program_that_cannot_be_run_is_a_sentence(panel):
    one = panel(["/nowhere/PythonSlicer"])
    kind, sentence = one.answer(one.request())[2:]
    assert kind == "stopped" and "PythonSlicer" in sentence
    one.worker.when_ready(lambda folder: None)
    one.until(lambda: [said for said in one.said if said[0] == "died"])


def test_the_program_is_that_of_the_application(panel, tmp_path, monkeypatch):
    from PediatricLiverDxLib.panel.worker_process import worker_command

    monkeypatch.setenv("PATH", "")
    assert worker_command()[0] == sys.executable
    program = tmp_path / "home" / "bin" / "PythonSlicer"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr("slicer.app", SimpleNamespace(slicerHome=str(tmp_path / "home")), raising=False)
    assert worker_command() == [str(program), "-m", "PediatricLiverDxLib.cli", "worker"]
    monkeypatch.setattr("slicer.app", None)
    monkeypatch.setattr("sys.executable", "")
    one = panel()
    with pytest.raises(InputError, match="PythonSlicer"):
        one.worker.start()
    assert one.answer(one.request())[2] == "input"


def test_the_environment_is_that_of_before_the_launcher_with_the_library_in_it(qt, tmp_path, monkeypatch):
    from PediatricLiverDxLib.panel.worker_process import worker_environment

    def started() -> Any:
        environment = qt.QProcessEnvironment()
        environment.insert("PYTHONPATH", "/of/the/user")
        return environment

    monkeypatch.setattr("slicer.app", SimpleNamespace(startupEnvironment=started, temporaryPath=str(tmp_path)), raising=False)
    environment = worker_environment()
    library, others = environment.value("PYTHONPATH").split(os.pathsep)
    assert (Path(library) / "PediatricLiverDxLib" / "worker.py").is_file() and others == "/of/the/user"
    assert environment.value("TMPDIR") == str(tmp_path) and not environment.value("LD_LIBRARY_PATH")
