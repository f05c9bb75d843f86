"""Which volume is which phase: first by what names and times say, and where they are silent by the image itself, in bolus order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .enhancement import Enhancement
from .notices import Notice, grave
from .phases import phase_from_delay, phase_from_name
from .vocabulary import PHASE_NAMES, PHASES

#: Log likelihood that a recognition must be ahead of the next best before it passes without a warning.
SURE = 3.0

#: Log likelihood by which the image must contradict the names before a swap is reported.
CONTRADICTED = 7.0

#: A phase fits a volume well where its measures are not further off than this (half the squared number of spreads, weighted).
FITS_WELL = 6.5

#: Cost of a volume that was acquired before another but would come after it in the order of the phases.
_WRONG_ORDER = 12.0


@dataclass(frozen=True)
class Hint:
    """What the words and times of one volume say: the phase (None where silent), whether contrast was given, and the source of that."""

    phase: str | None
    enhanced: bool
    how: str


def read_hint(texts: Sequence[tuple[str, str]], delay: float | None = None) -> Hint:
    """Read (where, text) pairs, the most telling first, and the delay after the start of the bolus in seconds."""
    enhanced, how = False, ""
    for where, text in texts:
        named = phase_from_name(text)
        if named is not None and named.phase is not None:
            return Hint(named.phase, named.phase != "PC", f"{where} '{named.word}'")
        if named is not None and not enhanced:
            enhanced, how = True, f"{where} '{named.word}'"
    if delay is not None and (phase := phase_from_delay(delay)) is not None:
        return Hint(phase, phase != "PC", f"{delay:.0f} s after the start of the contrast")
    return Hint(None, enhanced, how)


def hint_of_acquisition(texts: Sequence[tuple[str, str]], seconds: float | None, bolus_seconds: float | None, agent: str) -> Hint:
    """Read texts as read_hint does, then the seconds after midnight of scan and bolus (None where not said), then the agent given."""
    # both are times of day: across midnight nothing is concluded
    delay = seconds - bolus_seconds if seconds is not None and bolus_seconds is not None else None
    hint = read_hint(texts, delay)
    return replace(hint, enhanced=True) if hint.phase is None and agent else hint


def phases_from_images(
    measures: Sequence[Enhancement], order: Sequence[float | None], enhanced: Sequence[bool], free: Sequence[str]
) -> list[tuple[str | None, float]]:
    """Give each volume the phase that fits its brightness, all together and in the order of acquisition.

    Args:
        measures: one for each volume.
        order: numbers that grow with the time of acquisition, None where unknown.
        enhanced: True where contrast is known to have been given, so the volume is not PC.
        free: phases that may be given.

    Returns:
        For each volume its phase (None where there are more volumes than phases) and how far, in log likelihood, it is ahead of the best
        solution in which that volume has another phase.
    """
    choices = list(free) + [None] * max(0, len(measures) - len(free))
    scored = {}
    for phases in set(itertools.permutations(choices, len(measures))):
        score = 0.0
        for measure, phase, known in zip(measures, phases, enhanced, strict=True):
            score += measure.log_likelihood(phase) if phase else -40.0
            score -= 20.0 if known and phase == "PC" else 0.0
        placed = [(s, PHASES.index(p)) for s, p in zip(order, phases, strict=True) if s is not None and p is not None]
        score -= _WRONG_ORDER * sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(placed, 2))
        scored[phases] = score
    usual = {phase: index for index, phase in enumerate((*PHASES, None))}
    best = max(scored, key=lambda phases: (scored[phases], [-usual[p] for p in phases]))
    result = []
    for index, phase in enumerate(best):
        others = [score for phases, score in scored.items() if phases[index] != phase]
        result.append((phase, scored[best] - max(others, default=scored[best] - 2 * SURE)))
    return result


def contradictions(measures: dict[str, Enhancement]) -> list[Notice]:
    """Return grave notices where the brightness of named phases speaks against their names."""
    named = [phase for phase in PHASES if phase in measures and measures[phase].found]

    def total(phases):
        return sum(measures[name].log_likelihood(phase) for name, phase in zip(named, phases, strict=True))

    best = max(itertools.permutations(named), key=total)
    if total(best) - total(named) > CONTRADICTED:
        moved = {name: phase for name, phase in zip(named, best, strict=True) if name != phase}
        names = " and ".join(moved)
        brightness = "the brightness of aorta, liver and kidneys"
        if max(measures[name].misfit(phase) for name, phase in moved.items()) > FITS_WELL:
            return [grave(f"{names}: {brightness} fits neither their names nor other phases well; check the HU and which phase is which.")]
        return [grave(f"{names} look swapped: by {brightness} the names do not fit the images; check which is which.")]
    warnings = []
    for phase in named:
        scores = measures[phase].likelihoods()
        other = max(scores, key=scores.get)
        if scores[other] - scores[phase] > CONTRADICTED and "PC" in (phase, other):
            looks = "unenhanced" if other == "PC" else "enhanced with contrast"
            warnings.append(grave(f"{phase}: is named {PHASE_NAMES[phase]} but looks {looks}; check whether phases are swapped."))
        elif scores[other] - scores[phase] > CONTRADICTED and other not in named:
            warnings.append(grave(f"{phase}: is named {PHASE_NAMES[phase]} but looks more like the {PHASE_NAMES[other]} phase; check it."))
    return warnings
