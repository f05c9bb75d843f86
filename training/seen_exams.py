"""Which exams a bundle has seen: kept in bundle.json as hashes, so that measuring on them can be refused where the cohort is not at hand.

The hashes are salted; a bundle that goes on from another has its salt, so that both can be asked for the same exam. They keep ids out of
sight, not secret: who knows an id can ask for it. Use pseudonyms as ids. A training that begins with a bundle's networks has seen what the
bundle has: its run keeps that in RUN/seen.json.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PediatricLiverDxLib.bundle import read_bundle
from PediatricLiverDxLib.bundle_contents import BUNDLE_FILE
from PediatricLiverDxLib.vocabulary import InputError

from .plain_json import write_json

if TYPE_CHECKING:
    from .cohort import ExamRecord

SEEN_FILE = "seen.json"


def describe_seen(
    records: Iterable[ExamRecord], before: Mapping[str, Any] | None = None, patients: Iterable[str] = ()
) -> dict[str, Any]:
    """Return {"salt", "sha256"}: 64 bits of the hash of every exam and patient that a bundle was trained or tuned on.

    before: what the networks that training began with had seen, in the same form; it is part of what is returned. patients: further ones.
    """
    salt = before["salt"] if before else secrets.token_hex(8)
    own = {found for record in records for found in _hashes(record, salt)} | {_hash(salt, "patient", patient) for patient in patients}
    return {"salt": salt, "sha256": sorted(own.union(before["sha256"] if before else ()))}


def seen_before(run: Path, start: Path | None = None) -> dict[str, Any] | None:
    """Return the bundle that `run`, or the run whose weights `start` is, began with; None where all began at random weights.

    start: a bundle's folder, or RUN/detector/weights.safetensors. Returns {"bundle": name and version, "phantoms", "seen": as
    describe_seen}. Raises InputError when there is no such bundle, when it does not say what it has seen, and when the
    run began with one that has seen others: a bundle that was only measured anew is the same.
    """
    kept = _read(run)
    if start is None:
        return kept
    before = _of_bundle(start) if start.is_dir() else _read(start.resolve().parent.parent)
    if kept is None:
        return before
    if before is None:  # weights that began at random add nothing to what the run has seen; their patients are in splits.csv
        return kept
    if before["seen"] != kept["seen"]:
        raise InputError(f"{run.name} began with {kept['bundle']}, which has seen other exams than what --start names; give a new run")
    return kept


def write_seen(run: Path, before: Mapping[str, Any] | None) -> None:
    """Keep in the run what `seen_before` found."""
    if before is not None:
        write_json(run / SEEN_FILE, before)


def is_seen(record: ExamRecord, seen: Mapping[str, Any]) -> bool:
    """Tell whether an exam, or another exam of its patient, is among those seen."""
    return not set(seen["sha256"]).isdisjoint(_hashes(record, seen["salt"]))


def refuse_seen(document: Mapping[str, Any], records: Sequence[ExamRecord]) -> bool:
    """Raise InputError when a bundle was trained or tuned on any of the exams or patients; return whether it says so at all."""
    seen = document.get("training", {}).get("seen")
    if not seen:
        return False
    _refuse([record for record in records if is_seen(record, seen)])
    return True


def refuse_known(known: Iterable[ExamRecord], records: Sequence[ExamRecord]) -> None:
    """Raise InputError when any of the exams, or another exam of the same patient, is among the known ones."""
    known = tuple(known)
    exams, patients = {record.exam_id for record in known}, {record.patient_id for record in known}
    _refuse([record for record in records if record.exam_id in exams or record.patient_id in patients])


def _of_bundle(folder: Path) -> dict[str, Any]:
    if not (folder / BUNDLE_FILE).is_file():
        raise InputError(
            f"--start expects the folder of a bundle, with {BUNDLE_FILE} in it, or RUN/detector/weights.safetensors, got {folder.name}"
        )
    bundle = read_bundle(folder)
    training = bundle.document.get("training", {})
    if not training.get("seen"):
        raise InputError(f"{folder.name} does not say which exams it was trained on; begin with another bundle, or without --start")
    return {
        "bundle": f"{bundle.info.name} {bundle.info.version}", "phantoms": bool(training.get("phantoms")), "seen": training["seen"],
    }


def _read(run: Path) -> dict[str, Any] | None:
    path = run / SEEN_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _refuse(found: Sequence[ExamRecord]) -> None:
    if found:
        first = min(record.exam_id for record in found)
        raise InputError(
            f"{len(found)} of the exams, or of their patients, were trained on, {first} among them; give exams that no training has seen"
        )


def _hashes(record: ExamRecord, salt: str) -> tuple[str, str]:
    return _hash(salt, "exam", record.exam_id), _hash(salt, "patient", record.patient_id)


def _hash(salt: str, kind: str, name: str) -> str:
    return hashlib.sha256(f"{salt}/{kind}/{name}".encode()).hexdigest()[:16]
