"""Probabilities, verdicts and contributions in words, the same in the report, in Slicer and on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .vocabulary import BENIGN, CLASS_NAMES, MALIGNANT, PHASE_NAMES

if TYPE_CHECKING:
    from .diagnosis import LesionDiagnosis, PhaseShapley
    from .volumes import Grid

#: Stands on every screen and report.
RESEARCH_ONLY = "Research software. Not a medical device: do not base care of a patient on it."

GATE_TITLES = {
    "trust": "This exam resembles what the networks were trained on",
    "look": "Look twice before you use this result",
    "do not trust": "Do not trust this result",
}


#: The same in two words, to stand beside a result.
GATE_CHIPS = {"trust": "", "look": "look twice", "do not trust": "do not trust"}

_NOUNS = {"malignant": "malignancy", "benign": "a benign lesion"}
_OPPOSITE_SIDES = {"malignant": "benign", "benign": "malignant"}

#: What a result without lesions means.
NO_LESION = "No lesion was found. That does not rule one out: small lesions, and kinds the networks were not trained on, can be missed."


def percent(probability: float) -> str:
    """Return a probability as whole percent, never as certainty: "93 %", "> 99 %", "< 1 %"."""
    if probability > 0.99:
        return "> 99 %"
    if probability < 0.01:
        return "< 1 %"
    return f"{probability * 100:.0f} %"


def points(difference: float) -> str:
    """Return a difference of probabilities in percentage points with its sign: "+31", "−4", "0"."""
    rounded = round(difference * 100)
    return "0" if rounded == 0 else f"{rounded:+d}".replace("-", "−")


def side_of(lesion: LesionDiagnosis) -> str:
    """Return "malignant" or "benign", whichever is the more probable."""
    return "malignant" if lesion.malignant_probability >= 0.5 else "benign"


def side_probability(lesion: LesionDiagnosis) -> float:
    return max(lesion.malignant_probability, 1 - lesion.malignant_probability)


def chance(lesion: LesionDiagnosis, of: str) -> str:
    """Return how probable an outcome (vocabulary.OUTCOMES) of a lesion is, as percent."""
    sides = {"malignant": lesion.malignant_probability, "benign": 1 - lesion.malignant_probability}
    return percent(sides[of] if of in sides else lesion.class_probabilities[of])


def outcome(of: str) -> str:
    """Return what a probability is of, in words: "malignant" or a class's name."""
    return CLASS_NAMES.get(of, of)


def noun(of: str) -> str:
    """Return what a probability is of as a noun: "malignancy", "hepatoblastoma", "another malignant tumour"."""
    name = outcome(of)
    return _NOUNS.get(name, name).replace("other ", "another ")


def opposite(of: str) -> str:
    """Return what speaks against an outcome: the other side, or the other class of the same side."""
    if of in _OPPOSITE_SIDES:
        return _OPPOSITE_SIDES[of]
    pair = MALIGNANT if of in MALIGNANT else BENIGN
    return pair[1 - pair.index(of)]


def lesion_name(lesion: LesionDiagnosis) -> str:
    """Return "Lesion 1" for id L1; any other id is kept."""
    number = lesion.id.removeprefix("L")
    return f"Lesion {number}" if number.isdigit() else f"Lesion {lesion.id}"


def lesion_size(lesion: LesionDiagnosis) -> str:
    """Return the box's three edges, mm: "62 × 55 × 70 mm"."""
    return box_size(lesion.roi.size_mm)


def box_size(size_mm: Sequence[float]) -> str:
    """Return a box's three edges, mm: "62 × 55 × 70 mm"."""
    return " × ".join(f"{edge:.0f}" for edge in size_mm) + " mm"


def side_result(lesion: LesionDiagnosis) -> str:
    """Return "malignant 93 %"."""
    return f"{side_of(lesion)} {percent(side_probability(lesion))}"


def subtype_result(lesion: LesionDiagnosis) -> str:
    """Return "hepatoblastoma 90 %"."""
    return f"{CLASS_NAMES[lesion.decision]} {percent(lesion.class_probabilities[lesion.decision])}"


def place(lesion: LesionDiagnosis, grid: Grid, midline: float) -> str:
    """Return on which side of the body's midline (composites.body_midline, in voxel edges of the grid) a lesion's box lies."""
    box = lesion.roi.index_box(grid)
    if box[3] <= midline:
        return "right of the midline"
    return "left of the midline" if box[0] >= midline else "across the midline"


def short_result(lesion: LesionDiagnosis) -> str:
    """Return "malignant 93 %, hepatoblastoma 90 %"."""
    return f"{side_result(lesion)}, {subtype_result(lesion)}"


def sureness(lesion: LesionDiagnosis) -> str:
    """Return the more probable side of a lesion with how probable it is, in words."""
    side, probability = side_of(lesion), side_probability(lesion)
    if probability >= 0.95:
        return f"very probably {side}"
    if probability >= 0.8:
        return f"probably {side}"
    if probability >= 0.6:
        return f"more likely {side} than {opposite(side)}"
    return f"undecided, slightly more likely {side}"


def verdict(lesion: LesionDiagnosis) -> str:
    """Return a lesion's verdict in one sentence."""
    subtype = f"most likely {noun(lesion.decision)} ({percent(lesion.class_probabilities[lesion.decision])})"
    return f"{sureness(lesion).capitalize()} ({percent(side_probability(lesion))}), {subtype}."


def contribution(shapley: PhaseShapley) -> str:
    """Return in one sentence which phase moved a probability most, and which way."""
    values = shapley.values
    strongest = max(values, key=lambda phase: abs(values[phase]))
    if abs(values[strongest]) < 0.005:
        return f"No phase moves the probability of {noun(shapley.of)} by as much as half a percentage point."
    direction = noun(shapley.of if values[strongest] > 0 else opposite(shapley.of))
    if len(values) == 1:
        return f"Only the {PHASE_NAMES[strongest]} phase was acquired; it speaks for {direction}."
    words = f"The {PHASE_NAMES[strongest]} phase speaks most, for {direction}"
    against = [PHASE_NAMES[phase] for phase, value in values.items() if value * values[strongest] < 0 and abs(value) >= 0.02]
    if not against:
        return f"{words}; no phase clearly speaks against it."
    listed = " and ".join([", ".join(against[:-1]), against[-1]] if len(against) > 1 else against)
    return f"{words}; the {listed} phase{'s speak' if len(against) > 1 else ' speaks'} against it."
