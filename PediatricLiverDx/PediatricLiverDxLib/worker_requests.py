"""A line that the panel sent comes in, a request goes out, every value checked: nothing further on has to doubt its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rois import IDENTITY, Roi, nearest_to_ras
from .vocabulary import OUTCOMES, PHASES, InputError

RequestId = str | int


@dataclass(frozen=True)
class ExamFiles:
    """Say where an exam lies: phase -> file or folder, or one study folder (the other is None); align: whether to undo motion."""

    files: Mapping[str, Path] | None
    study: Path | None
    align: bool


@dataclass(frozen=True)
class Detect:
    """Find lesions and do no more. bundle: None for the shipped one."""

    exam: ExamFiles
    bundle: Path | None


@dataclass(frozen=True)
class Diagnose:
    """Diagnose an exam.

    rois: boxes to use instead of the detector's, named "1", "2", ...; None to look for lesions. roi_ids: the sender's names for them.
    output: folder for result.json, CAM volumes, ROI markups and, where wanted, report and scene; None to write nothing.
    """

    exam: ExamFiles
    bundle: Path | None
    rois: tuple[Roi, ...] | None
    roi_ids: tuple[str, ...]
    output: Path | None
    report: bool
    scene: bool


@dataclass(frozen=True)
class Map:
    """Compute which parts of a lesion speak for an outcome (vocabulary.OUTCOMES). output: the NRRD file to write."""

    exam: ExamFiles
    bundle: Path | None
    roi: Roi
    of: str
    output: Path


@dataclass(frozen=True)
class Cancel:
    """End the request `of`."""

    of: RequestId


@dataclass(frozen=True)
class Quit:
    """End the worker."""


Request = Diagnose | Detect | Map | Cancel | Quit

_EXAM_KEYS = ("files", "study", "align", "bundle")
_KEYS = {
    "diagnose": (*_EXAM_KEYS, "rois", "output", "report", "scene"),
    "detect": _EXAM_KEYS,
    "map": (*_EXAM_KEYS, "roi", "of", "output"),
    "cancel": ("of",),
    "quit": (),
}
_ROI_KEYS = ("id", "center_ras_mm", "size_mm", "axes_ras", "source", "score")


def read_line(line: bytes) -> tuple[RequestId | None, dict[str, Any]]:
    """Return the id of a line, None where it has none of use, and what the line holds; raises InputError for what is no JSON object."""
    try:
        document = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError("Expected a line of JSON in UTF-8, got something else; send one object a line.") from None
    if not isinstance(document, dict):
        raise InputError(f"Expected a JSON object, got {_kind(document)}; send one object a line.")
    return (document["id"] if _is_id(document.get("id")) else None), document


def request_of(document: Mapping[str, Any]) -> Request:
    """Return the request of {"id": ..., NAME: {...}}; raises InputError naming the key that is missing, unknown or of the wrong type."""
    if not _is_id(document.get("id")):
        raise InputError("Expected an id (text or a whole number) in the request; give each request one of its own.")
    names = [name for name in document if name != "id"]
    if len(names) != 1 or names[0] not in _KEYS:
        raise InputError(f"Expected one of {', '.join(_KEYS)} beside the id, got {_listed(names)}; send one request a line.")
    name, body = names[0], document[names[0]]
    _refuse_other_keys(body, _KEYS[name], name)
    if name == "quit":
        return Quit()
    if name == "cancel":
        if not _is_id(body.get("of")):
            raise InputError("Expected the id of a request as of in cancel.")
        return Cancel(body["of"])
    exam = ExamFiles(_files(body.get("files")), _path(body, "study"), _flag(body, "align"))
    if (exam.files is None) == (exam.study is None):
        raise InputError(f"Expected either files or study in {name}; give one of them.")
    if name == "detect":
        return Detect(exam, _path(body, "bundle"))
    if name == "map":
        return Map(exam, _path(body, "bundle"), _roi(body.get("roi"), "1")[0], _outcome(body.get("of")), _nrrd(body))
    rois, ids = _rois(body.get("rois"))
    return Diagnose(exam, _path(body, "bundle"), rois, ids, _path(body, "output"), _flag(body, "report"), _flag(body, "scene"))


def roi_document(roi: Roi) -> dict[str, Any]:
    """Return a Roi as requests hold it; the way back is request_of."""
    return {
        "id": roi.id,
        "center_ras_mm": list(roi.center_ras_mm),
        "size_mm": list(roi.size_mm),
        "axes_ras": [list(axis) for axis in roi.axes_ras],
        "source": roi.source,
        "score": None if roi.score is None else float(roi.score),
    }


def _refuse_other_keys(body: Any, known: tuple[str, ...], name: str) -> None:
    if not isinstance(body, dict):
        raise InputError(f"Expected an object as {name}, got {_kind(body)}.")
    if unknown := [key for key in body if key not in known]:
        raise InputError(f"Expected only {_listed(known)} in {name}, got {_listed(unknown)} too; leave it out.")


def _files(files: Any) -> dict[str, Path] | None:
    if files is None:
        return None
    _refuse_other_keys(files, PHASES, "files")
    # a phase that is null is absent
    found = {phase: _path(files, phase) for phase in PHASES if files.get(phase) is not None}
    if not found:
        raise InputError("Expected at least one phase in files, got none.")
    return found


def _path(body: Mapping[str, Any], key: str) -> Path | None:
    text = body.get(key)
    if text is None:
        return None
    # a relative path would be looked for wherever the worker happens to have been started
    if not isinstance(text, str) or "\0" in text or not Path(text).is_absolute():
        raise InputError(f"Expected an absolute path as {key}, got {'another text' if isinstance(text, str) else _kind(text)}.")
    return Path(text)


def _nrrd(body: Mapping[str, Any]) -> Path:
    path = _path(body, "output")
    if path is None or path.suffix != ".nrrd":
        raise InputError("Expected an .nrrd file as output of map.")
    return path


def _outcome(value: Any) -> str:
    if value not in OUTCOMES:
        raise InputError(f"Expected one of {', '.join(OUTCOMES)} as of in map, got something else.")
    return value


def _flag(body: Mapping[str, Any], key: str) -> bool:
    value = body.get(key, True)
    if not isinstance(value, bool):
        raise InputError(f"Expected true or false as {key}, got {_kind(value)}.")
    return value


def _rois(rois: Any) -> tuple[tuple[Roi, ...] | None, tuple[str, ...]]:
    if rois is None:
        return None, ()
    if not isinstance(rois, list):
        raise InputError(f"Expected a list or null as rois, got {_kind(rois)}.")
    pairs = [_roi(roi, str(n)) for n, roi in enumerate(rois, 1)]
    ids = tuple(id for _, id in pairs)
    if len(set(ids)) < len(ids):
        raise InputError("Expected another id for every ROI, got one twice; name each once.")
    return tuple(roi for roi, _ in pairs), ids


def _roi(body: Any, number: str) -> tuple[Roi, str]:
    """Return a Roi and the sender's name for it. The Roi is named by its number: another name may be a person's, and get into results."""
    _refuse_other_keys(body, _ROI_KEYS, f"ROI {number}")
    id, source, score = body.get("id", number), body.get("source", "radiologist"), body.get("score")
    if not isinstance(id, str):
        raise InputError(f"Expected a text as id of ROI {number}, got {_kind(id)}.")
    if source not in ("detector", "radiologist"):
        raise InputError(f"Expected detector or radiologist as source of ROI {number}, got something else.")
    if score is not None and (not _is_number(score) or not 0 <= score <= 1):
        raise InputError(f"Expected a number from 0 to 1 or null as score of ROI {number}, got something else.")
    center, size = (_vector(body.get(key), f"{key} of ROI {number}") for key in ("center_ras_mm", "size_mm"))
    axes = body.get("axes_ras", IDENTITY)
    if not isinstance(axes, list | tuple) or len(axes) != 3:
        raise InputError(f"Expected three axes as axes_ras of ROI {number}, got something else.")
    axes = tuple(_vector(axis, f"axis of ROI {number}") for axis in axes)
    axes, size = nearest_to_ras(axes, size)
    return Roi(center, size, axes, id=number, source=source, score=score), id


def _vector(values: Any, what: str) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(_is_number(v) for v in values):
        raise InputError(f"Expected three numbers as {what}, got something else.")
    x, y, z = (float(v) for v in values)
    return (x, y, z)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    # no coordinate is as large as this; a whole number of any length cannot be made a float
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _listed(names: Any) -> str:
    # what was sent may be long, or a person's name
    shown = [name if len(name) <= 20 and name.isidentifier() else "another name" for name in names]
    return ", ".join(shown[:8]) or "nothing"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
