"""Everything a run does, as data: read from one JSON file, saved with the run.

configs/paper.json has the settings of arXiv 2511.19478 as far as they can be set. What stays different there: weights start at random, one
trunk has three heads, the weights are averaged, the optimiser has momentum, images are 128 (classifiers) and 320 (detector) pixels, and
the detector's intensity, scale, shift and rotation and the classifiers' intensity, rotation and flips are jittered by the defaults below.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PediatricLiverDxLib.composites import DETECTOR_SIZE
from PediatricLiverDxLib.vocabulary import CLASSES, InputError

#: Name of the network that is no backbone.
DETECTOR = "detector"


@dataclass(frozen=True)
class CohortSettings:
    """How patients are split; see cohort.split_by_patient."""

    validation: float = 0.15
    test: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class CacheSettings:
    """What is cut out of every exam once, before training; see cache.build_cache."""

    #: Share of the exams whose phases are aligned first; the others stay as acquired, so that both are known.
    align_share: float = 0.0
    #: Largest lesions of an exam that are cut out for the classifiers.
    lesions_per_exam: int = 3
    #: Slices with a lesion, besides the K of each cut lesion, and slices without, that the detector learns from.
    positive_slices: int = 6
    negative_slices: int = 5
    #: Side of the detector's slices as they are kept, pixels; training enlarges them to DETECTOR_SIZE. Less saves room where the exams show
    #: no more.
    slice_size: int = DETECTOR_SIZE


@dataclass(frozen=True)
class DetectorSettings:
    """YOLOv8 training. Shares and probabilities in [0, 1]; scale and translation as fractions; angles in degrees."""

    architecture: str = "yolov8n.yaml"
    epochs: int = 20
    images_per_epoch: int = 4096
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 5e-4
    warmup_share: float = 0.05
    ema_decay: float = 0.998
    mixup: float = 0.1
    mixup_beta: float = 32.0
    pkcp_share: float = 0.15
    #: Classes whose PKCP images take any of the K^4 choices; the others take the same slice in every phase.
    expanded_classes: tuple[str, ...] = CLASSES
    negative_share: float = 0.3
    #: Share of those without a lesion that are drawn from slices in which the weights that training begins at (--start) see one by mistake.
    hard_share: float = 0.0
    #: Share of the images that are drawn from slices with a small lesion, one that no slice in the cache shows larger than `small` of
    #: the image's side: few slices of an exam show it, and every exam being equally likely it is hardly seen.
    small_share: float = 0.0
    small: float = 0.1
    phase_dropout: float = 0.35
    #: Side of the square of a slice that a training image shows, as a fraction of the slice's: around one of its lesions, or of what was
    #: taken for one, where it has any.
    #: Nothing but convolutions looks at it, so less than 1 costs less, the square of it, and teaches the same.
    view: float = 1.0
    scale: float = 0.35
    translation: float = 0.1
    rotation: float = 8.0
    intensity: float = 1.0


@dataclass(frozen=True)
class ClassifierSettings:
    """Classifier training. Mappings are per backbone; shares and probabilities in [0, 1]; see augmentation for jitter."""

    optimiser: str = "adamw"
    epochs: Mapping[str, int] = field(default_factory=lambda: {"vit": 24, "resnet18": 24, "densenet121": 12})
    composites_per_epoch: int = 4096
    batch: int = 64
    learning_rate: Mapping[str, float] = field(default_factory=lambda: {"vit": 1e-3, "resnet18": 1e-3, "densenet121": 1e-3})
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: str = "one-cycle"
    ema_decay: float = 0.995
    #: Classes expanded to all K^4 composites; the others give the K depth-matched ones.
    expanded_classes: tuple[str, ...] = CLASSES
    #: Share of the draws that are depth-matched whatever the class.
    depth_matched_share: float = 0.5
    #: Share of the draws whose box is the lesion's whole box, as in diagnosis, rather than the one enclosing the four slices' boxes.
    whole_box_share: float = 0.7
    #: Share of the batches that go through Balanced-MixUp, and the two parameters of its Beta distribution.
    mixup_share: float = 0.5
    mixup_beta: float = 2.0
    phase_dropout: float = 0.3
    #: Shift and scale of the box as a fraction of its side; slice jitter as a fraction of the lesion's height.
    box_jitter: float = 0.15
    slice_jitter: float = 0.07
    rotation: float = 12.0
    flip: float = 0.5
    #: Standard deviation of a phase's shift against the others, mm.
    phase_shift_mm: float = 1.0
    #: Strength of the intensity jitter; 0 switches it off.
    intensity: float = 1.0
    #: Weight of an auxiliary loss that names the entity from the pooled features; its layer is not exported.
    entity_weight: float = 0.0
    #: Side of the composites in the first epochs, and how many those are: small ones cost a quarter and show the pattern already.
    first_size: Mapping[str, int] = field(default_factory=lambda: {"vit": 128, "resnet18": 128, "densenet121": 128})
    first_epochs: Mapping[str, int] = field(default_factory=lambda: {"vit": 0, "resnet18": 0, "densenet121": 0})


@dataclass(frozen=True)
class Configuration:
    """A whole run: seed and the settings of every step."""

    name: str = "unnamed"
    seed: int = 0
    cohort: CohortSettings = field(default_factory=CohortSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    classifiers: ClassifierSettings = field(default_factory=ClassifierSettings)

    @classmethod
    def read(cls, path: Path) -> Configuration:
        """Read a configuration; keys left out take their defaults, unknown ones raise InputError."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"a configuration in JSON was expected in {Path(path).name}: {error}; see training/configs") from error
        return _build(cls, data, Path(path).name)

    def write(self, path: Path) -> None:
        """Write everything, defaults included, as JSON."""
        Path(path).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")


    def same_exams(self, other: Configuration) -> bool:
        """Say whether a run of the other configuration splits and cuts out a cohort alike."""
        return (self.seed, self.cohort, self.cache) == (other.seed, other.cohort, other.cache)


def configuration_of_run(run: Path) -> Configuration:
    """Return what a run's detector was trained with, after checking that all its networks were trained on the same split.

    Raises InputError when they were not. A network that kept no configuration is taken as trained with the run's.
    """
    paths = [run / "detector" / "configuration.json", *sorted((run / "classifiers").glob("*/configuration.json"))]
    kept = {path.parent.name: Configuration.read(path) for path in paths if path.is_file()}
    found = kept.get("detector") or Configuration.read(run / "configuration.json")
    if other := [name for name, one in kept.items() if not one.same_exams(found)]:
        raise InputError(f"{', '.join(other)} and the detector of {run.name} were trained on different splits; train both in one run")
    return found


def own_settings(settings: DetectorSettings | ClassifierSettings, network: str) -> dict[str, Any]:
    """Return settings as data; of those that are given per backbone, only the network's own."""
    return {key: value.get(network) if isinstance(value, Mapping) else value for key, value in dataclasses.asdict(settings).items()}


def classifier_settings_of_run(run: Path, backbone: str) -> ClassifierSettings:
    """Return what a run's backbone was trained with; a network that kept no configuration is taken as trained with the run's."""
    path = run / "classifiers" / backbone / "configuration.json"
    return Configuration.read(path if path.is_file() else run / "configuration.json").classifiers


def _build(kind: type, data: Any, where: str) -> Any:
    fields = {item.name: item for item in dataclasses.fields(kind)}
    if not isinstance(data, Mapping) or set(data) - set(fields):
        unknown = ", ".join(sorted(set(data) - set(fields))) if isinstance(data, Mapping) else type(data).__name__
        raise InputError(f"{where}: {unknown} is not a setting; expected among {', '.join(fields)}")
    sections = {"cohort": CohortSettings, "cache": CacheSettings, "detector": DetectorSettings, "classifiers": ClassifierSettings}
    return kind(**{
        name: _build(sections[name], value, f"{where}, {name}") if name in sections else tuple(value) if isinstance(value, list) else value
        for name, value in data.items()
    })
