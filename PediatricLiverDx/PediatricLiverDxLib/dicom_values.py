"""Values of DICOM elements as Python values, whatever writers made of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pydicom.dataset import Dataset

    #: What elements are read from: a dataset, or keyword -> value as an application's database gives it.
    Header = Dataset | Mapping[str, Any]


def text_of(header: Header, keyword: str) -> str:
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


def acquired(header: Header) -> float | None:
    """Return when an image was acquired in seconds after midnight, None where it is not said: anonymisers blank times to 000000."""
    return seconds_of(header.get("AcquisitionDateTime")) or seconds_of(header.get("AcquisitionTime")) or None


def content_time(header: Header) -> float | None:
    """Return when an image was made, which may be long after its acquisition, in seconds after midnight."""
    return seconds_of(header.get("ContentTime")) or seconds_of(header.get("SeriesTime")) or None


def contrast_agent(header: Header) -> str:
    """Return the contrast agent given into a vein, "" where none is named or it was only drunk or given as an enema."""
    agent = text_of(header, "ContrastBolusAgent")
    if re.fullmatch(r"(?i)\s*(no|none|non|0|n/?a|ohne|kein\w*)?\s*", agent):
        return ""
    how = f"{agent} {text_of(header, 'ContrastBolusRoute')}".lower()
    enteral = re.search(r"\b(oral\w*|p\.?o\.?|rectal\w*|enema)\b", how)
    return "" if enteral and not re.search(r"\b(iv|i\.v\.?|intra-?ven\w*)", how) else agent
