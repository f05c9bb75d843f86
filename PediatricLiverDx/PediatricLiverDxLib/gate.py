"""The gate: says whether a diagnosis can be trusted, by how far the exam and its lesions are from what the bundle was trained on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .exam_features import FEATURES
from .vocabulary import PHASE_NAMES, PHASES
from .volumes import MIN_SIMILARITY
from .wording import percent

if TYPE_CHECKING:
    from .bundle import Bundle
    from .classification import CoalitionOutputs
    from .diagnosis import LesionDiagnosis
    from .volumes import AlignedExam, Exam

TRUST, LOOK, DO_NOT_TRUST = VERDICTS = ("trust", "look", "do not trust")

#: Backbone whose pooled features place a lesion; the bundle's first one where it has none of this name.
EMBEDDING_BACKBONE = "resnet18"
#: Principal components kept of a lesion's embedding.
COMPONENTS = 16
#: Part of the covariance's own diagonal that is mixed into it, so that a few hundred exams are enough.
SHRINKAGE = 0.2
#: "look" begins at the distance that one exam in 50 exceeds that was not fitted to, "do not trust" at FAR times that of one in 200.
LOOK_PERCENTILE, FAR_PERCENTILE, FAR = 98.0, 99.5, 1.25
#: With fewer lesions their spread is not known well enough to call another one strange.
FEWEST_LESIONS = 60
#: With a greater part of its features missing an exam cannot be placed at all.
MOST_MISSING = 0.4
#: A probability of malignant between these is open.
OPEN = (0.3, 0.7)
#: Backbones that differ by more than this in the probability of malignant disagree.
DISAGREEMENT = 0.35
#: A detector's lesion below this score is doubtful.
DOUBTFUL = 0.5
#: HU of fluid, soft tissue and enhancement, and the part of a lesion's box that has to show it; an ellipsoid fills half of its box.
TISSUE_HU, LEAST_TISSUE = (-30.0, 400.0), 0.3
#: With fewer pixels across, a lesion has no inner structure to tell it by.
FEWEST_PIXELS = 4


@dataclass(frozen=True)
class Gate:
    """Hold the verdict, one of VERDICTS, and the reasons for it, one sentence each (empty for "trust")."""

    verdict: str
    reasons: tuple[str, ...] = ()


def lesion_embedding(outputs: CoalitionOutputs) -> np.ndarray:
    """Return a lesion's embedding, (channel,): mean of the last feature map over its slices, rows and columns."""
    backbone = EMBEDDING_BACKBONE if EMBEDDING_BACKBONE in outputs.feature_maps else outputs.backbones[0]
    return outputs.feature_maps[backbone].mean((0, 2, 3)).astype(float)


def judge(
    bundle: Bundle,
    exam: Exam,
    aligned: AlignedExam,
    lesions: Sequence[LesionDiagnosis],
    embeddings: Sequence[np.ndarray],
    cut: set[str] = frozenset(),
) -> Gate:
    """Weigh everything that speaks against trusting a diagnosis; the gravest finding is the verdict.

    embeddings: of the lesions, in their order (lesion_embedding). cut: ids of lesions whose box reached beyond the volume's edge.
    Grave warnings of the exam (notices.Notice) are findings too.
    """
    findings = [
        *_exam_findings(bundle, exam),
        *_phase_findings(aligned),
        *((LOOK, str(warning)) for warning in (*exam.warnings, *aligned.warnings) if getattr(warning, "grave", False)),
        *((LOOK, f"{name}: its box reaches beyond the edge of the volume, a part of the lesion may be missing.") for name in sorted(cut)),
    ]
    for lesion, embedding in zip(lesions, embeddings, strict=True):
        findings += [*_lesion_findings(bundle, lesion, embedding), *_box_findings(aligned, lesion)]
    if not lesions:
        findings.append((LOOK, "No lesion was found, which does not mean that there is none."))
    verdict = max((finding[0] for finding in findings), key=VERDICTS.index, default=TRUST)
    findings.sort(key=lambda finding: -VERDICTS.index(finding[0]))
    return Gate(verdict, tuple(dict.fromkeys(text for _, text in findings)))


def _exam_findings(bundle: Bundle, exam: Exam) -> list[tuple[str, str]]:
    gate = bundle.document["gate"]
    found = []
    strange: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for phase, vector in exam.features.items():
        statistics = gate["phases"].get(phase)
        if statistics is None:
            found.append((DO_NOT_TRUST, f"The networks were not trained with a {PHASE_NAMES[phase]} phase."))
            continue
        mean, precision = np.array(statistics["mean"]), np.array(statistics["precision"])
        missing = np.isnan(vector)
        if missing.mean() > MOST_MISSING:
            found.append((DO_NOT_TRUST, f"The {PHASE_NAMES[phase]} phase shows next to nothing that could be compared with other exams."))
            continue
        vector = np.where(missing, mean, vector)
        verdict = _verdict(_distance(vector, mean, precision), statistics)
        if verdict != TRUST:
            strange[verdict][phase] = _strangest(vector, mean, np.array(statistics["sd"]))
    return [*found, *((verdict, _said_of(phases)) for verdict, phases in strange.items())]


def _said_of(strange: Mapping[str, list[str]]) -> str:
    """Say of all phases in one sentence what would be the same sentence about each. strange: phase -> in what it is most unlike."""
    names = [PHASE_NAMES[phase] for phase in strange]
    which = f"{', '.join(names[:-1])} and {names[-1]} phases are" if len(names) > 1 else f"{names[0]} phase is"
    words = [word for word, _ in Counter(word for words in strange.values() for word in words).most_common(2)]
    return f"The {which} unlike the exams that the networks were trained on, most of all in {' and in '.join(words)}."


def _phase_findings(aligned: AlignedExam) -> list[tuple[str, str]]:
    missing = [PHASE_NAMES[phase] for phase, there in zip(PHASES, aligned.present, strict=True) if not there]
    found = []
    if len(missing) == len(PHASES) - 1:
        found.append((LOOK, f"Only one phase was given ({PHASE_NAMES[aligned.reference]}): how a lesion takes up contrast cannot be seen."))
    elif missing:
        found.append((LOOK, f"The exam has no {' and no '.join(missing)} phase."))
    for phase, fit in aligned.alignment.items():
        if fit.status != "reference" and fit.similarity_after < MIN_SIMILARITY:
            found.append((LOOK, f"The {PHASE_NAMES[phase]} phase does not fit the {PHASE_NAMES[aligned.reference]} phase well."))
    return found


def _lesion_findings(bundle: Bundle, lesion: LesionDiagnosis, embedding: np.ndarray) -> list[tuple[str, str]]:
    found = []
    statistics = bundle.document["gate"].get("lesion")
    if statistics:
        reduced = _reduced(embedding, bundle.arrays["gate.centre"], bundle.arrays["gate.components"])
        distance = _distance(reduced, bundle.arrays["gate.mean"], bundle.arrays["gate.precision"])
        verdict = _verdict(distance, statistics)
        if verdict != TRUST:
            found.append((verdict, f"{lesion.id} looks unlike the lesions that the networks were trained on."))
    if OPEN[0] < lesion.malignant_probability < OPEN[1]:
        found.append((LOOK, f"{lesion.id}: benign and malignant are nearly as likely as each other."))
    own = [values["malignant_probability"] for values in lesion.backbones.values()]
    if max(own) - min(own) > DISAGREEMENT:
        between = f"from {percent(min(own))} to {percent(max(own))}"
        found.append((LOOK, f"{lesion.id}: the networks disagree (probability of malignant {between})."))
    if lesion.detection_score is not None and lesion.detection_score < DOUBTFUL:
        found.append((LOOK, f"{lesion.id}: the detector is not sure that this is a lesion ({percent(lesion.detection_score)})."))
    return found


def _box_findings(aligned: AlignedExam, lesion: LesionDiagnosis) -> list[tuple[str, str]]:
    """Say whether a lesion's box holds something that can be a lesion at all."""
    box = lesion.roi.index_box(aligned.grid)
    inside = tuple(slice(max(int(np.floor(box[n])), 0), max(int(np.ceil(box[n + 3])), 1)) for n in (2, 1, 0))
    hu = aligned.hu[(PHASES.index(aligned.reference), *inside)]
    found = []
    if not hu.size or ((hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])).mean() < LEAST_TISSUE:
        found.append((DO_NOT_TRUST, f"{lesion.id}: its box shows hardly any soft tissue."))
    if min(box[3] - box[0], box[4] - box[1]) < FEWEST_PIXELS:
        found.append((LOOK, f"{lesion.id}: its box is less than {FEWEST_PIXELS} pixels wide."))
    return found


def _verdict(distance: float, statistics: Mapping[str, float]) -> str:
    if distance > statistics["do_not_trust_threshold"]:
        return DO_NOT_TRUST
    return LOOK if distance > statistics["look_threshold"] else TRUST


def _distance(vector: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> float:
    """Return the Mahalanobis distance divided by the root of the number of dimensions: about 1 for what was trained on."""
    away = np.asarray(vector, float) - mean
    return float(np.sqrt(max(away @ precision @ away, 0) / len(away)))


def _strangest(vector: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> list[str]:
    """Return words for the two features that are most standard deviations from the mean."""
    order = np.argsort(-np.abs((vector - mean) / sd))
    words = list(FEATURES.values())
    return list(dict.fromkeys(words[n] for n in order))[:2]


def _reduced(embedding: np.ndarray, centre: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return an embedding's principal components, and the logarithm of what they leave over."""
    away = np.asarray(embedding, float) - centre
    inner = away @ components.T
    return np.concatenate([inner, np.log(np.linalg.norm(away - inner @ components, axis=-1, keepdims=True) + 1e-6)], -1)


def fit_gate(
    features: Mapping[str, np.ndarray], embeddings: np.ndarray | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Take the gate's statistics from what a bundle was trained on.

    features: phase -> (exam, feature) of exam_features, NaN as there. embeddings: (lesion, channel) of lesion_embedding on lesions that the
    networks were not trained on; fewer than FEWEST_LESIONS are left aside. The thresholds come from distances in five-fold
    cross-validation.

    Returns bundle.json's "gate" and the "gate.*" arrays of heads.npz.
    """
    document: dict[str, Any] = {"feature_names": list(FEATURES), "phases": {}}
    for phase, values in features.items():
        values = _filled(np.asarray(values, float))
        mean, precision, sd = _fit(values)
        document["phases"][phase] = {
            "exams": len(values),
            "mean": _rounded(mean),
            "sd": _rounded(sd),
            "precision": [_rounded(row) for row in precision],
            **_thresholds(values, lambda known, held_out: (known, held_out)),
        }
    arrays: dict[str, np.ndarray] = {}
    if embeddings is not None and len(embeddings) >= FEWEST_LESIONS:
        embeddings = np.asarray(embeddings, float)
        centre, components = _principal(embeddings)
        mean, precision, _ = _fit(_reduced(embeddings, centre, components))
        arrays = {"gate.centre": centre, "gate.components": components, "gate.mean": mean, "gate.precision": precision}
        document["lesion"] = {"lesions": len(embeddings), **_thresholds(embeddings, _reduced_by_the_first)}
    return document, {name: array.astype(np.float32) for name, array in arrays.items()}


def _filled(values: np.ndarray) -> np.ndarray:
    """Return (exam, feature) with the mean of the others where a feature could not be measured: any value else would widen the gate."""
    known = np.isfinite(values)
    means = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known, values, means)


def _principal(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of (n, channel) and its first principal components (component, channel)."""
    centre = embeddings.mean(0)
    return centre, np.linalg.svd(embeddings - centre, full_matrices=False)[2][:COMPONENTS]


def _reduced_by_the_first(known: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    principal = _principal(known)
    return _reduced(known, *principal), _reduced(held_out, *principal)


def _fit(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, precision (inverse of the shrunken covariance) and standard deviations of (n, feature)."""
    mean, sd = values.mean(0), np.maximum(values.std(0), 1e-3)
    scaled = (values - mean) / sd
    correlation = (1 - SHRINKAGE) * (scaled.T @ scaled) / len(values) + SHRINKAGE * np.eye(values.shape[1])
    return mean, np.linalg.inv(correlation) / np.outer(sd, sd), sd


def _thresholds(values: np.ndarray, prepare: Callable, folds: int = 5) -> dict[str, float]:
    """Return the thresholds from the distances of held-out rows of `values`; prepare(known, held out) -> both in the form to be fitted."""
    distances = []
    for fold in range(min(folds, len(values))):
        left_out = np.arange(len(values)) % folds == fold
        known, held_out = prepare(values[~left_out], values[left_out])
        mean, precision, _ = _fit(known)
        distances += [_distance(vector, mean, precision) for vector in held_out]
    look, far = np.percentile(distances, (LOOK_PERCENTILE, FAR_PERCENTILE))
    return {"look_threshold": float(look), "do_not_trust_threshold": float(max(FAR * far, look))}


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{v:.6g}") for v in values]
