"""A warning about an exam is a sentence; a grave one means that a reader must look before trusting what is computed from the exam."""

from __future__ import annotations


class Notice(str):
    """A warning that is read, printed and written as the sentence it is, and knows whether it is grave."""

    grave: bool

    def __new__(cls, text: str, *, grave: bool = False) -> Notice:
        notice = super().__new__(cls, text)
        notice.grave = grave
        return notice


def grave(text: str) -> Notice:
    """Return a grave notice: swapped or uncertain phases, doubtful HU, filled gaps, frames of reference that differ, drifting slices."""
    return Notice(text, grave=True)


def about(label: str, warning: str) -> Notice:
    """Return a warning with what it is about in front, as grave as it was."""
    return Notice(f"{label}: {warning}", grave=getattr(warning, "grave", False))
