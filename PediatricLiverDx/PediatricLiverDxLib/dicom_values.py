"""Values of DICOM elements as Python values, whatever writers made of them."""

from __future__ import annotations

import re

import numpy as np
from pydicom.dataset import Dataset


def text_of(header: Dataset, keyword: str) -> str:
    """Return an element as text without outer blanks, "" where it is absent or empty."""
    value = header.get(keyword)
    return "" if value is None else str(value).strip()


def values_of(value: object) -> tuple:
    """Return a value of any multiplicity as a tuple."""
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) or not hasattr(value, "__iter__") else tuple(value)


def numbers_of(value: object, count: int) -> tuple[float, ...] | None:
    """Return count finite numbers, None where there are more, fewer or others."""
    try:
        numbers = tuple(float(v) for v in values_of(value))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.all(np.isfinite(numbers)) else None


def seconds_of(value: object) -> float | None:
    """Return seconds after midnight of a DICOM time (HHMMSS.FFFFFF, HH:MM:SS) or date and time (YYYYMMDDHHMMSS.F)."""
    text = str(value or "").strip().replace(":", "")
    match = re.fullmatch(r"(?:\d{8}(?=\d{4}))?(\d\d)(\d\d)(\d\d(?:\.\d*)?)?(?:[+-]\d{4})?", text)
    if not match:
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0)
