"""What a diagnosis leaves on disk: result.json, report.html, scene.mrb, and a CAM volume and an ROI markup per lesion; all or nothing."""

from __future__ import annotations

import gzip
import json
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .heap import return_free_memory
from .private_folder import abandoned, hold
from .report import write_report
from .rois import write_roi
from .vocabulary import InputError

if TYPE_CHECKING:
    from .attribution import CamVolume
    from .diagnosis import Diagnosis
    from .stages import SceneApart
    from .volumes import AlignedExam, Grid

RESULT, REPORT, SCENE = "result.json", "report.html", "scene.mrb"

#: What the folders are called that results are written into before they take their place.
_WRITING = ".writing-"

#: What is in such a folder: the results; while they take the place of a former run, their names, one a line, and its files.
_NEW, _NAMES, _FORMER = "new", "names", "former"

#: Files of a lesion. Only those that the former result.json lists are taken away: a radiologist may keep ROIs of their own beside them.
_LESION_FILE = re.compile(r"cam_L\d+\.nrrd|roi_L\d+\.mrk\.json")

NO_SLICER = "scene.mrb was left out because slicer-core is not installed; install the package's extra named scene to have it."


class OutputError(InputError):
    """The results cannot be written where they are wanted."""


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder to write into; when all went well, its files take the place of a former run's in `out`.

    The folder lies beside `out`, or in it where it exists, so that files are moved and never copied; it is gone in the end, whatever
    happens, and so are folders that were made for it when nothing came of it; only where the process is killed it stays, until the next run
    into the same place. A former run is replaced whole or stays as it is.
    Raises OutputError when `out` cannot be written, a full disk included; what is raised inside passes through.
    """
    out = Path(out)
    _refuse_names_of_bytes(out)
    made: list[Path] = []
    folder = lock = None
    try:
        with _as_output_error(out):
            if out.exists() and not out.is_dir():
                raise OutputError(f"The output {out.name} is a file, expected a folder; choose another.")
            existed = out.is_dir()
            _refuse_folders_in_the_way(out, (RESULT, REPORT, SCENE))
            made = [parent for parent in out.parents if not parent.exists()]
            out.parent.mkdir(parents=True, exist_ok=True)
            _remove_what_killed_runs_left(out)
            # not by tempfile: it leaves out what the user's umask allows
            folder = (out if existed else out.parent) / f"{_WRITING}{secrets.token_hex(6)}"
            (folder / _NEW).mkdir(parents=True)
            with suppress(OSError):  # file systems without locks: then nobody takes it for abandoned
                lock = hold(folder)
        yield folder / _NEW
        with _as_output_error(out):
            # another run may have made it meanwhile
            if existed or out.is_dir():
                if not existed:  # a folder with a former run in it lies in that run's folder
                    folder = folder.rename(out / folder.name)
                _replace(folder, out)
            else:
                (folder / _NEW).rename(out)
    finally:
        if lock is not None:
            lock.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in made:  # stays where anything lies in it
            with suppress(OSError):
                parent.rmdir()


def _remove_what_killed_runs_left(out: Path) -> None:
    """Remove the folders of runs that were killed; where one was killed while it replaced a former run, that run is put back."""
    for parent in (out, out.parent):
        for folder in abandoned(parent, f"{_WRITING}*"):
            if (folder / _FORMER).is_dir() and not (parent / RESULT).exists():
                _put_back(folder, parent)
            shutil.rmtree(folder, ignore_errors=True)


def _put_back(folder: Path, out: Path) -> None:
    """Take away what was moved from `folder` to `out` already, and move the former run back."""
    for name in (folder / _NAMES).read_text(encoding="utf-8").splitlines():
        if not (folder / _NEW / name).exists():
            (out / name).unlink(missing_ok=True)
    # should this be killed too: from here on these names are the former run's
    (folder / _NAMES).write_text("", encoding="utf-8")
    for path in sorted((folder / _FORMER).glob("*"), key=lambda path: path.name == RESULT):
        path.replace(out / path.name)


@contextmanager
def _as_output_error(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"The results cannot be written to {out.name} ({reason}); make room or choose another folder.") from None


def _refuse_names_of_bytes(out: Path) -> None:
    try:
        str(out).encode("utf-8")
    except UnicodeEncodeError:
        # ITK ends the whole process at such a path
        raise OutputError("The output folder's path is not UTF-8 text; choose another.") from None


def _refuse_folders_in_the_way(out: Path, names: Iterable[str]) -> None:
    for name in names:
        if (out / name).is_dir():
            raise OutputError(f"{out.name} holds a folder called {name}, where a result goes; move it away or choose another folder.")


def _replace(folder: Path, out: Path) -> None:
    """Move the new files in `folder` into `out` in place of a former run's; after any exception `out` is as it was.

    result.json goes first and comes last: where it is, the rest belongs to it.
    """
    new, backup = folder / _NEW, folder / _FORMER
    written = sorted((path.name for path in new.iterdir()), key=lambda name: name == RESULT)
    _refuse_folders_in_the_way(out, written)
    (folder / _NAMES).write_text("\n".join(written), encoding="utf-8")
    backup.mkdir()
    former = [RESULT, REPORT, SCENE, *_former_lesion_files(out), *written]
    try:
        for name in dict.fromkeys(former):
            if (out / name).is_file() or (out / name).is_symlink():
                (out / name).replace(backup / name)
        for name in written:
            (new / name).replace(out / name)
    except BaseException:
        _put_back(folder, out)
        raise


def _former_lesion_files(out: Path) -> list[str]:
    """Return the names of the lesion files that the result.json in `out` speaks of."""
    try:
        lesions = json.loads((out / RESULT).read_text(encoding="utf-8"))["lesions"]
        names = [name for lesion in lesions for name in (lesion["cam"], f"roi_{lesion['id']}.mrk.json")]
        return [name for name in names if _LESION_FILE.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # nothing of ours, or nothing that can be told


class SceneHere:
    """Write scene.mrb in this process."""

    def take(self, aligned: AlignedExam) -> AlignedExam:
        """Take the voxels over; whoever wants to see them from now on finds them in the exam that is returned."""
        return aligned

    def why_not(self) -> str:
        """Return a sentence that says why no scene can be written, or nothing; the first call takes a second."""
        return scene_writer()[1]

    def write(self, diagnosis: Diagnosis, aligned: AlignedExam, path: Path) -> None:
        """Write it. Raises OSError."""
        write_scene, _ = scene_writer()
        write_scene(diagnosis, aligned, path)


def write_outputs(
    diagnosis: Diagnosis, aligned: AlignedExam, folder: Path, *, scene: bool | SceneHere | SceneApart = True, report: bool = True
) -> Diagnosis:
    """Write everything into a folder and return the diagnosis as written, with the time that it took and what had to be left out.

    scene: whether to write scene.mrb, or what writes it and takes the voxels over; where Slicer's core cannot be used it is left out and a
    warning says so. report: whether to write report.html. Raises OutputError.
    """
    folder, started = Path(folder), time.perf_counter()
    scene = SceneHere() if scene is True else scene
    try:
        for lesion in diagnosis.lesions:
            write_cam(lesion.cam, aligned.grid, folder / lesion.cam_file)
            write_roi(lesion.roi, folder / lesion.roi_file)
        if report:
            write_report(diagnosis, aligned, folder / REPORT)
        if scene:
            return_free_memory()
            aligned = scene.take(aligned)
        why_not = scene.why_not() if scene else ""
        if why_not:
            diagnosis = replace(diagnosis, warnings=(*diagnosis.warnings, why_not))
            if report:
                write_report(diagnosis, aligned, folder / REPORT)
        elif scene:
            scene.write(diagnosis, aligned, folder / SCENE)
        diagnosis = replace(diagnosis, timings_s={**diagnosis.timings_s, "write": time.perf_counter() - started})
        text = json.dumps(diagnosis.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / RESULT).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and folder.is_dir():
            raise  # not the user's disk: a file of this software is missing
        reason = error.strerror or str(error)
        raise OutputError(f"The results cannot be written ({reason}); make room or choose another folder.") from None
    return diagnosis


def scene_writer() -> tuple[Callable[[Diagnosis, AlignedExam, Path], None] | None, str]:
    """Return scene.write_scene, or None and a sentence that says why there is none; the first call takes a second."""
    if "slicer" not in sys.modules and find_spec("slicer") is None:
        return None, NO_SLICER
    try:
        from .scene import write_scene  # slicer and vtk take a second to import and may not be there
    except ImportError as error:
        if (error.name or "").startswith(__package__):
            raise
        reason = str(error).split(" (")[0]  # what follows is a path of this computer
        advice = "install the system's libEGL (libegl1 on Debian and Ubuntu)" if "EGL" in reason else "install slicer-core again"
        return None, f"scene.mrb was left out because slicer-core cannot be loaded ({reason}); {advice}."
    return write_scene, ""


def write_cam(cam: CamVolume, grid: Grid, path: Path) -> None:
    """Write a CAM volume as NRRD, float32, where it lies in the reference grid. Raises OSError."""
    origin = grid.index_to_ras([cam.start_xyz])[0] * (-1, -1, 1)
    steps = np.reshape(grid.direction, (3, 3)) * grid.spacing_xyz
    header = "\n".join(
        (
            "NRRD0004",
            "type: float",
            "dimension: 3",
            "space: left-posterior-superior",
            "sizes: " + " ".join(str(n) for n in reversed(cam.array.shape)),
            "space directions: " + " ".join(_nrrd_vector(step) for step in steps.T),
            "kinds: domain domain domain",
            "endian: little",
            "encoding: gzip",
            "space origin: " + _nrrd_vector(origin),
        )
    )
    path.write_bytes(f"{header}\n\n".encode("ascii") + gzip.compress(cam.array.astype("<f4").tobytes(), 2, mtime=0))


def _nrrd_vector(values: Iterable[float]) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"
