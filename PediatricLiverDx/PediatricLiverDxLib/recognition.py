"""Which volume is which phase: first by what names and times say, and where they are silent by the image itself, in bolus order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

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

#: Cost of an answer without a portal venous phase where one may be given: about one exam of the liver in eight. An assumption.
_NO_PORTAL = 2.0

#: Phases after contrast in the order in which they are numbered, and the cost of another one than the number says.
_NUMBERED = ("AP", "PVP", "DP")
_OTHER_NUMBER = 5.0

#: Time from one phase to the next: its median in seconds, and the standard deviation of its logarithm. Assumptions, from phases about 35,
#: 75 and 195 s after the injection begins; how long before it the plain phase is taken, nobody knows.
_INTERVALS = {("AP", "PVP"): (40.0, 0.35), ("PVP", "DP"): (120.0, 0.6), ("AP", "DP"): (165.0, 0.5)}
_AFTER_PLAIN = (240.0, 1.0)

#: No interval, however odd, costs more than this.
_ODD_INTERVAL = 6.0


@dataclass(frozen=True)
class Hint:
    """What the words and times of one volume say: the phase (None where silent), whether contrast was given, and the source of that.

    `number`: which phase after contrast it is called, None where it has no number.
    """

    phase: str | None
    enhanced: bool
    how: str
    number: int | None = None


def read_hint(texts: Sequence[tuple[str, str]], delay: float | None = None) -> Hint:
    """Read (where, text) pairs, the most telling first, and the delay after the start of the bolus in seconds."""
    enhanced, how, number = False, "", None
    for where, text in texts:
        named = phase_from_name(text)
        if named is not None and named.phase is not None:
            return Hint(named.phase, named.phase != "PC", f"{where} '{named.word}'")
        if named is not None and not enhanced:
            enhanced, how, number = True, f"{where} '{named.word}'", named.number
    if delay is not None and (phase := phase_from_delay(delay)) is not None:
        return Hint(phase, phase != "PC", f"{delay:.0f} s after the start of the contrast")
    return Hint(None, enhanced, how, number)


def hint_of_acquisition(texts: Sequence[tuple[str, str]], seconds: float | None, bolus_seconds: float | None, agent: str) -> Hint:
    """Read texts as read_hint does, then the seconds after midnight of scan and bolus (None where not said), then the agent given."""
    # both are times of day: across midnight nothing is concluded
    delay = seconds - bolus_seconds if seconds is not None and bolus_seconds is not None else None
    hint = read_hint(texts, delay)
    return replace(hint, enhanced=True) if hint.phase is None and agent else hint


def phases_from_images(
    measures: Sequence[Enhancement],
    order: Sequence[float | None],
    enhanced: Sequence[bool],
    free: Sequence[str],
    seconds: Sequence[float | None] = (),
    numbered: Sequence[str | None] = (),
) -> list[tuple[str | None, float]]:
    """Give each volume the phase that fits its brightness, all together and in the order of acquisition.

    Args:
        measures: one for each volume.
        order: numbers that grow with the time of acquisition, None where unknown.
        enhanced: True where contrast is known to have been given, so the volume is not PC.
        free: phases that may be given.
        seconds: time of acquisition in seconds after midnight, None where unknown; none at all where nothing is to be read from intervals.
        numbered: phase that the number in its name stands for, None where it has none.

    Returns:
        For each volume its phase (None where there are more volumes than phases) and how far, in log likelihood, it is ahead of the best
        solution in which that volume has another phase, with and without the expectation that a portal venous phase is there.
    """
    choices = list(free) + [None] * max(0, len(measures) - len(free))
    scored, expected = {}, {}
    for phases in set(itertools.permutations(choices, len(measures))):
        score = 0.0
        for measure, phase, known in zip(measures, phases, enhanced, strict=True):
            score += measure.log_likelihood(phase) if phase else -40.0
            score -= 20.0 if known and phase == "PC" else 0.0
        placed = [(s, PHASES.index(p)) for s, p in zip(order, phases, strict=True) if s is not None and p is not None]
        score -= _WRONG_ORDER * sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(placed, 2))
        score -= _OTHER_NUMBER * sum(called not in (None, phase) for called, phase in zip(numbered, phases, strict=False))
        scored[phases] = score + _log_intervals(seconds, phases)
        expected[phases] = scored[phases] - (_NO_PORTAL if "PVP" in free and "PVP" not in phases else 0.0)
    usual = {phase: index for index, phase in enumerate((*PHASES, None))}
    best = max(scored, key=lambda phases: (expected[phases], [-usual[p] for p in phases]))
    result = []
    for index, phase in enumerate(best):
        others = [phases for phases in scored if phases[index] != phase]
        ahead = [scores[best] - max(scores[phases] for phases in others) for scores in (scored, expected)] if others else [2 * SURE]
        result.append((phase, min(ahead)))
    return result


def phases_by_number(numbers: Sequence[int | None]) -> list[str | None]:
    """Return the phases that numbers in names stand for; none where the numbers do not count from one on, each once ("in three phases")."""
    counted = sorted(number for number in numbers if number is not None)
    if len(counted) < 2 or counted != list(range(1, len(counted) + 1)):
        return [None] * len(numbers)
    return [None if number is None else _NUMBERED[number - 1] for number in numbers]


def _log_intervals(seconds: Sequence[float | None], phases: Sequence[str | None]) -> float:
    """Return the log likelihood of the times between neighbouring phases, where all times are known; 0 where they are not."""
    if len(seconds) < 2 or None in seconds or None in phases:
        return 0.0
    cut_to_minutes = all(time % 60 == 0 for time in seconds)
    ordered = sorted(zip(seconds, phases, strict=True), key=lambda pair: (pair[0], PHASES.index(pair[1])))
    total = 0.0
    for (earlier, one), (later, other) in itertools.pairwise(ordered):
        # a time that is cut to a minute may be up to 60 s later; the difference of two such has a triangular distribution
        lag = np.linspace(-60, 60, 121) if cut_to_minutes else np.zeros(1)
        weight = 1 - np.abs(lag) / 61
        median, spread = _AFTER_PLAIN if one == "PC" else _INTERVALS.get((one, other), _AFTER_PLAIN)
        interval = np.maximum(later - earlier + lag, 1.0)
        density = np.exp(-0.5 * (np.log(interval / median) / spread) ** 2) / (spread * interval)
        # relative to an interval of which nothing is known but that it is about a minute
        total += max(math.log(60 * float(weight @ density / weight.sum()) + 1e-12), -_ODD_INTERVAL)
    return total


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
