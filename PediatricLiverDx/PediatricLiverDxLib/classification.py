"""Classification: a lesion's composites come in, all coalitions of its phases run, logits and calibrated probabilities go out.

A coalition is a bit mask over the phases that the exam has (bit i = i-th present phase in the order of PHASES): the phases in it are shown
to the networks, the others are zeros, as an absent phase is in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .concurrency import in_order
from .vocabulary import BENIGN, CLASSES, HEADS, MALIGNANT, PHASES

if TYPE_CHECKING:
    from .bundle import Networks


@dataclass(frozen=True)
class CoalitionOutputs:
    """Hold what the networks say of one lesion.

    phases: the players, the phases that the exam has. logits: float64 (backbone, coalition, head), calibrated: mean over the lesion's
    composites, divided by the backbone's temperature. shares: float64 (backbone, head), what each counts in the ensemble.
    feature_maps: backbone -> (slice, channel, row, column) with all phases.
    """

    backbones: tuple[str, ...]
    phases: tuple[str, ...]
    logits: np.ndarray
    shares: np.ndarray
    feature_maps: Mapping[str, np.ndarray]

    @property
    def ensemble(self) -> np.ndarray:
        """Return the backbones' logits by their shares, (coalition, head) in the order of HEADS; the last coalition has all phases."""
        return (self.logits * self.shares[:, None]).sum(0)


def coalition_composites(composites: np.ndarray, present: tuple[bool, ...]) -> np.ndarray:
    """Return composites (slice, phase, row, column) under every coalition, (coalition * slice, phase, row, column), slice fastest."""
    players = [p for p in range(len(PHASES)) if present[p]]
    out = np.zeros((2 ** len(players), *composites.shape), np.float32)
    for coalition in range(len(out)):
        shown = [p for bit, p in enumerate(players) if coalition >> bit & 1]
        out[coalition][:, shown] = composites[:, shown]
    return out.reshape(-1, *composites.shape[1:])


def classify(
    networks: Networks, composites: np.ndarray, present: tuple[bool, ...], progress: Callable[[float], None] | None = None
) -> CoalitionOutputs:
    """Run every backbone on every coalition of a lesion's composites, float32 (slice, phase, row, column) in [0, 1].

    progress is told the part done, 0 to 1; what it raises ends the run.
    """
    batch = coalition_composites(composites, present)
    n_slices, backbones = len(composites), tuple(networks.classifiers)
    # one coalition a run: DenseNet121 takes 80 MB for 8 composites and 30 MB for 3, and is no faster for it
    # and the backbones in turn, for two of DenseNet121 at a time take 40 MB more
    runs = [(backbone, start) for start in range(0, len(batch), n_slices) for backbone in backbones]

    def run(which: tuple[str, int]) -> list[np.ndarray]:
        backbone, start = which
        # without any phase all composites are zeros: one stands for them
        end = start + n_slices if start else 1
        return networks.classifiers[backbone].run(["feature_map", "logits"], {"composites": batch[start:end]})

    means: dict[str, list[np.ndarray]] = {backbone: [] for backbone in backbones}
    feature_maps: dict[str, np.ndarray] = {}
    for done, ((backbone, _), (feature_map, logits)) in enumerate(zip(runs, in_order(run, runs, networks.threads), strict=True), 1):
        means[backbone].append(logits.astype(float).mean(0) / networks.temperatures[backbone])
        # the full coalition comes last and stays
        feature_maps[backbone] = feature_map
        if progress:
            progress(done / len(runs))
    phases = tuple(phase for phase, there in zip(PHASES, present, strict=True) if there)
    logits, shares = (np.stack([one[backbone] for backbone in backbones]) for one in (means, networks.shares))
    return CoalitionOutputs(backbones, phases, logits, shares, feature_maps)


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    x = np.asarray(x, float)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def class_probabilities(logits: np.ndarray) -> dict[str, float]:
    """Return the probabilities of CLASSES from calibrated logits (3,) in the order of HEADS; they sum to 1.

    P(HB) = p1 (1 - pm), P(OMHT) = p1 pm, P(HH) = (1 - p1)(1 - pb), P(OBHT) = (1 - p1) pb, with p1 malignant, pb OBHT given benign, pm OMHT
    given malignant.
    """
    p1, pb, pm = (float(p) for p in sigmoid(logits))
    values = {"HH": (1 - p1) * (1 - pb), "OBHT": (1 - p1) * pb, "HB": p1 * (1 - pm), "OMHT": p1 * pm}
    return {name: values[name] for name in CLASSES}


def malignant_probability(logits: np.ndarray) -> float:
    """Return the probability of malignant from calibrated logits (3,)."""
    return float(sigmoid(logits[0]))


def decide(probabilities: Mapping[str, float], malignant: float) -> str:
    """Return the decided class: the more probable side first (malignant from 0.5), then the more probable class of that side."""
    side = MALIGNANT if malignant >= 0.5 else BENIGN
    return max(side, key=lambda name: probabilities[name])


def outcome_head(of: str) -> tuple[int, float]:
    """Return the index in HEADS of the logit that tells an outcome ("malignant", "benign" or a class), and the sign that speaks for it."""
    if of in ("malignant", "benign"):
        return HEADS.index("stage1"), 1.0 if of == "malignant" else -1.0
    return subtype_head(of)


def subtype_head(decision: str) -> tuple[int, float]:
    """Return the index in HEADS of the decided class's subtype head, and the sign of its logit that speaks for the class."""
    head = HEADS.index("malignant_subtype" if decision in MALIGNANT else "benign_subtype")
    return head, 1.0 if decision in ("OBHT", "OMHT") else -1.0
