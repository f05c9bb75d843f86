"""Which exams a bundle has seen: kept in bundle.json as hashes, so that measuring on them can be refused where the cohort is not at hand.

The hashes are salted per bundle. They keep ids out of sight, not secret: who knows an id can ask for it. Use pseudonyms as ids.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PediatricLiverDxLib.vocabulary import InputError

from .cohort import ExamRecord


def describe_seen(records: Iterable[ExamRecord], salt: str | None = None) -> dict[str, Any]:
    """Return {"salt", "sha256"}: 64 bits of the hash of every exam and patient that a bundle was trained or tuned on."""
    salt = salt or secrets.token_hex(8)
    return {"salt": salt, "sha256": sorted({found for record in records for found in _hashes(record, salt)})}


def refuse_seen(document: Mapping[str, Any], records: Sequence[ExamRecord]) -> bool:
    """Raise InputError when a bundle was trained or tuned on any of the exams or patients; return whether it says so at all."""
    seen = document.get("training", {}).get("seen")
    if not seen:
        return False
    hashes = set(seen["sha256"])
    _refuse([record for record in records if hashes & set(_hashes(record, seen["salt"]))])
    return True


def refuse_known(known: Iterable[ExamRecord], records: Sequence[ExamRecord]) -> None:
    """Raise InputError when any of the exams, or another exam of the same patient, is among the known ones."""
    known = tuple(known)
    exams, patients = {record.exam_id for record in known}, {record.patient_id for record in known}
    _refuse([record for record in records if record.exam_id in exams or record.patient_id in patients])


def _refuse(found: Sequence[ExamRecord]) -> None:
    if found:
        first = min(record.exam_id for record in found)
        raise InputError(
            f"{len(found)} of the exams, or of their patients, were trained on, {first} among them; give exams that no training has seen"
        )


def _hashes(record: ExamRecord, salt: str) -> tuple[str, str]:
    texts = (f"{salt}/exam/{record.exam_id}", f"{salt}/patient/{record.patient_id}")
    return tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)
