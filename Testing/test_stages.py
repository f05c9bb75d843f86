"""A diagnosis in processes of its own: the same result as in one, the same sentences, and nothing left of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_study
from PediatricLiverDxLib.cli import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")

COMMAND = [sys.executable, "-m", "PediatricLiverDxLib.cli", "diagnose"]


def started(*arguments: object, **variables: str) -> subprocess.Popen:
    """Start the command, which may fork, unlike main in the process of the tests."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables},
        # tests that were started in the background ignore this signal, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def children(process: subprocess.Popen) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def result(folder: Path) -> dict:
    document = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {key: value for key, value in document.items() if key != "timings_s"}


@pytest.mark.parametrize("lesion", [True, False])
def test_the_same_bits_as_in_one_process(tiny_bundle, tmp_path, lesion):
    study = write_study(tmp_path / "study", lesion=lesion)
    process = started(study, "-o", tmp_path / "apart", "--bundle", tiny_bundle)
    _, error = process.communicate(timeout=180)
    assert (process.returncode, error) == (0, "")
    assert main(["diagnose", str(study), "-o", str(tmp_path / "one"), "--bundle", str(tiny_bundle)]) == 0
    apart, one = tmp_path / "apart", tmp_path / "one"
    assert result(apart) == result(one)
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in apart.iterdir()) == names
    for name in names:
        if name.startswith("cam_"):
            assert (apart / name).read_bytes() == (one / name).read_bytes()


def test_what_runs_the_networks_and_writes_the_results_does_without_simpleitk():
    code = (
        "import sys; from PediatricLiverDxLib import diagnosis, outputs, report, stages; "
        "sys.exit(sorted({'SimpleITK', 'slicer', 'pydicom'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_exam_that_cannot_be_used_is_one_sentence(tiny_bundle, tmp_path):
    (tmp_path / "PVP.nii").write_text("no volume")
    process = started("--pvp", tmp_path / "PVP.nii", "-o", tmp_path / "out", "--bundle", tiny_bundle)
    _, error = process.communicate(timeout=180)
    assert process.returncode == 2 and error.count("\n") == 1 and "PVP.nii" in error
    assert not (tmp_path / "out").exists()


def test_a_process_that_is_killed_ends_the_run_and_leaves_nothing(tiny_study, tiny_bundle, tmp_path):
    process = started(tiny_study, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--json-progress")
    process.stdout.readline()
    (reader,) = children(process)
    os.kill(reader, signal.SIGKILL)
    _, error = process.communicate(timeout=180)
    # by the system, as far as anybody can tell
    assert process.returncode == 2 and error.count("\n") == 1 and "not enough memory" in error
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_was_not_needed_is_checked_all_the_same(tiny_bundle, tmp_path):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    name = document["classifiers"]["vit"]["file"]
    (bundle / name).write_bytes((bundle / document["detector"]["file"]).read_bytes())
    document["sha256"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    process = started(write_study(tmp_path / "study", lesion=False), "-o", tmp_path / "out", "--bundle", bundle)
    _, error = process.communicate(timeout=180)
    assert process.returncode == 2 and error.count("\n") == 1 and "vit" in error
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_in_the_home_or_temporary_folder(tiny_study, tiny_bundle, tmp_path):
    """onnxruntime would leave the identity that it gives to a computer and reports to its maker."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    where = {"HOME": str(home), "TMPDIR": str(temporary)}
    process = started(tiny_study, "-o", tmp_path / "out", "--bundle", tiny_bundle, **where)
    _, error = process.communicate(timeout=180)
    assert (process.returncode, error) == (0, "")
    assert (list(home.iterdir()), list(temporary.iterdir())) == ([], [])


def test_pixels_on_their_way_to_a_decoder_are_gone_with_the_process_that_had_them(tmp_path):
    code = """
import time
from contextlib import closing
from PediatricLiverDxLib.apart import Apart
from PediatricLiverDxLib.private_folder import make_private_folder

def work(line):
    with closing(make_private_folder()) as folder:
        (folder.path / "pixels.dcm").write_bytes(b"pixels")
        line.tell("written")
        time.sleep(60)

apart = Apart(work)
assert apart.wait() == ("written",)
apart.end()
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=50)
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_run(tiny_study, tiny_bundle, tmp_path, number):
    process = started(tiny_study, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--json-progress")
    process.stdout.readline()
    (reader,) = children(process)
    # the first process may get a signal before it began to read; the one that reads is to end all the same
    process.send_signal(number)
    process.communicate(timeout=180)
    assert process.returncode not in (0, 1)
    assert until(lambda: not is_running(reader))
