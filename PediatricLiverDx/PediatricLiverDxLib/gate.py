"""The gate: says whether a diagnosis can be trusted, by how far the exam and its lesions are from what the bundle was trained on."""

from __future__ import annotations

from dataclasses import dataclass

VERDICTS = ("trust", "look", "do not trust")


@dataclass(frozen=True)
class Gate:
    """Hold the verdict, one of VERDICTS, and the reasons for it, one sentence each (empty for "trust")."""

    verdict: str
    reasons: tuple[str, ...] = ()
