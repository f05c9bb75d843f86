"""What a diagnosis leaves on disk: result.json, report.html, scene.mrb, and a CAM volume and an ROI markup per lesion; all or nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from .report import write_report
from .rois import write_roi
from .vocabulary import InputError

if TYPE_CHECKING:
    from .alignment import AlignedExam
    from .attribution import CamVolume
    from .diagnosis import Diagnosis
    from .exam import Grid

RESULT, REPORT, SCENE = "result.json", "report.html", "scene.mrb"

#: Files of a former run that a new one replaces or takes away.
_FORMER = (RESULT, REPORT, SCENE, "cam_*.nrrd", "roi_*.mrk.json")

NO_SCENE = "scene.mrb was left out because slicer-core is not installed; install the package's extra named scene to have it."


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder to write into; when all went well, its files take the place of a former run's in `out`.

    The folder lies beside `out`, or in it where it exists, so that files are moved and never copied; it is gone in the end, whatever
    happens. result.json goes first and comes last: where it is, the rest belongs to it. Raises InputError when `out` cannot be written,
    a full disk included.
    """
    out = Path(out)
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"The output {out.name} is a file, expected a folder; choose another.")
        existed = out.is_dir()
        if not existed:
            out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=out if existed else out.parent))
    except OSError as error:
        raise InputError(f"The output folder {out.name} cannot be written ({error.strerror}); choose another.") from None
    try:
        yield folder
        if existed:
            _replace(folder, out)
        else:
            folder.chmod(0o755)
            folder.rename(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"The results cannot be written to {out.name} ({reason}); make room or choose another folder.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(folder: Path, out: Path) -> None:
    written = {path.name for path in folder.iterdir()}
    (out / RESULT).unlink(missing_ok=True)
    for pattern in _FORMER:
        for path in out.glob(pattern):
            if path.name not in written:
                path.unlink()
    for name in sorted(written, key=lambda name: name == RESULT):
        (folder / name).replace(out / name)


def write_outputs(diagnosis: Diagnosis, aligned: AlignedExam, folder: Path, *, scene: bool = True) -> Diagnosis:
    """Write everything into a folder and return the diagnosis as written, with the time that it took and what had to be left out.

    scene: whether to write scene.mrb; without slicer-core it is left out and a warning says so. Raises OSError.
    """
    folder, started = Path(folder), time.perf_counter()
    write_scene = scene_writer() if scene else None
    if scene and write_scene is None:
        diagnosis = replace(diagnosis, warnings=(*diagnosis.warnings, NO_SCENE))
    for lesion in diagnosis.lesions:
        _write_cam(lesion.cam, aligned.grid, folder / lesion.cam_file)
        write_roi(lesion.roi, folder / lesion.roi_file)
    if write_scene:
        write_scene(diagnosis, aligned, folder / SCENE)
    write_report(diagnosis, aligned, folder / REPORT)
    diagnosis = replace(diagnosis, timings_s={**diagnosis.timings_s, "write": time.perf_counter() - started})
    text = json.dumps(diagnosis.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / RESULT).write_text(text + "\n", encoding="utf-8")
    return diagnosis


def scene_writer():
    """Return scene.write_scene, or None where Slicer's core is not installed; the first call takes a second."""
    try:
        from .scene import write_scene  # slicer and vtk take a second to import and may not be there
    except ImportError:
        return None
    return write_scene


def _write_cam(cam: CamVolume, grid: Grid, path: Path) -> None:
    """Write a CAM volume as NRRD, float32, where it lies in the reference grid."""
    image = sitk.GetImageFromArray(cam.array)
    image.SetSpacing(grid.spacing_xyz)
    image.SetDirection(grid.direction)
    origin_ras = grid.index_to_ras([cam.start_xyz])[0]
    image.SetOrigin((-origin_ras[0], -origin_ras[1], origin_ras[2]))
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written") from error
