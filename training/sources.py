"""What an exam was read from, as one short key: it changes when a file or the row in exams.csv does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from .cohort import ExamRecord


def source_key(record: ExamRecord) -> str:
    """Return a hash of the row's facts and of name, size and time of change of every file it names; nothing is read."""
    row = [record.exam_id, record.patient_id, record.class_name, record.entity, record.age_years]
    named = {**record.phases, **({"lesions": record.lesions} if record.lesions else {})}
    files = {name: [_facts(path) for path in _files(Path(named[name]))] for name in sorted(named)}
    return hashlib.sha256(json.dumps([row, files]).encode()).hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(inner for inner in path.rglob("*") if inner.is_file())
    else:
        yield path


def _facts(path: Path) -> list:
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns]
