"""Files, DICOM or images in memory become an Exam: one to four phases in HU, checked, each with a word on how its phase was recognised."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .candidates import Candidate, candidate_of_path, candidates_of_study
from .enhancement import measure_enhancement
from .hounsfield import canonical_hu
from .notices import Notice, grave
from .recognition import SURE, contradictions, phases_by_number, phases_from_images
from .vocabulary import PHASE_NAMES, PHASES, InputError
from .volumes import Exam, PhaseVolume

#: More volumes than this that no name tells are not read: brightness can tell four phases, and a mask or two is told by its values.
MAX_SILENT = 6

#: A phase that covers less than this part of the reference may miss part of the liver.
LEAST_COVERED = 0.7


def exam_from_images(images: Mapping[str, sitk.Image], sources: Mapping[str, str] | None = None) -> Exam:
    """Check images that are already told apart by phase and return them as an Exam.

    Args:
        images: phase -> 3D image in HU, any orientation.
        sources: phase -> label without patient data; the phase's own name where absent.

    Raises:
        InputError: an unknown phase, no phase, or a volume that cannot be used.
    """
    sources = sources or {}
    _refuse_phases(images)
    phases, warnings = {}, []
    for phase in PHASES:
        if phase in images:
            image, notes = canonical_hu(images[phase], phase)
            phases[phase] = PhaseVolume(image, sources.get(phase, phase), "given")
            warnings += notes
    return _checked(phases, warnings)


def read_exam(study: Path | None = None, files: Mapping[str, Path] | None = None) -> Exam:
    """Read an exam from a folder, or from one path for each phase.

    Args:
        study: folder, at any depth, of DICOM as on a CD, or of NIfTI, NRRD or MetaImage files; or one such file.
        files: phase -> volume file, multi-frame DICOM file, or folder that holds this phase. Instead of study.

    Raises:
        InputError: no usable phase, files of two patients, one series given twice, phases that do not overlap, or a volume that is
            damaged, too small, too large, sheared, uneven, not finite or not in HU.
    """
    if (study is None) == (not files):
        raise InputError("Expected either a folder with the exam or files for its phases, got both or neither.")
    try:
        if files:
            return _read_files({phase: Path(path) for phase, path in files.items()})
        candidates, warnings = candidates_of_study(Path(study))
        return _read_candidates(candidates, warnings)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"Expected an exam that can be read, got an error ({reason}); check the path and its permissions.") from error


def _refuse_phases(given: Mapping[str, object]) -> None:
    unknown = sorted(set(given) - set(PHASES))
    if unknown:
        raise InputError(f"Expected phases among {', '.join(PHASES)}, got {', '.join(unknown)}.")
    if not given:
        raise InputError(f"Expected at least one phase of {', '.join(PHASES)}, got none.")


def _read_files(files: Mapping[str, Path]) -> Exam:
    _refuse_phases(files)
    phases, warnings, candidates = {}, [], []
    for phase in PHASES:
        if phase in files:
            candidate, notes = candidate_of_path(files[phase], phase)
            candidates.append(candidate)
            warnings += _patient_notes(candidates)
            if candidate.hint.phase not in (None, phase):
                notes.append(
                    grave(
                        f"{phase}: was given, but {candidate.hint.how} speaks for {candidate.hint.phase}; check whether phases are swapped."
                    )
                )
            image, volume_notes = candidate.volume(phase)
            phases[phase] = PhaseVolume(image, candidate.source, "given")
            warnings += [*notes, *volume_notes]
    return _checked(phases, warnings + _frame_warnings(candidates))


def _read_candidates(candidates: list[Candidate], warnings: list[str]) -> Exam:
    """Read what a folder offers: a volume named as a phase must be usable, a silent one is left out where it is not."""
    warnings += _patient_notes(candidates)
    candidates, crowd_notes = without_crowd(candidates)
    warnings += crowd_notes
    phases, silent, refusals = {}, [], []
    for candidate in candidates:
        named = candidate.hint.phase is not None
        try:
            image, notes = candidate.volume()
        except InputError as error:
            if named or len(candidates) == 1:
                raise
            refusals.append((candidate, str(error)))
            continue
        warnings += notes
        if named:
            phases[candidate.hint.phase] = PhaseVolume(image, candidate.source, candidate.hint.how)
        else:
            silent.append((candidate, image))
    if not phases and not silent:
        raise InputError(refusals[0][1])
    warnings += [f"Left out: {candidate.source}: {refusal.removeprefix(f'{candidate.name}: ')}" for candidate, refusal in refusals]
    if silent:
        found, notes = phases_by_brightness(silent, phases)
        phases |= {phase: PhaseVolume(one.image, one.candidate.source, one.how) for phase, one in found.items()}
        warnings += notes
    if not phases:
        raise InputError("Expected a phase of an abdominal CT, found no volume that tells its phase; give a file or folder for each phase.")
    used = [c for c in candidates if any(v.source == c.source for v in phases.values())]
    return _checked({p: phases[p] for p in PHASES if p in phases}, warnings + _frame_warnings(used))


def without_crowd(candidates: list[Candidate]) -> tuple[list[Candidate], list[str]]:
    """Leave out volumes that no name tells, before their voxels are read, where there are too many to be told by brightness."""
    silent = [c for c in candidates if c.hint.phase is None]
    if len(silent) <= MAX_SILENT:
        return candidates, []
    if len(silent) == len(candidates):
        raise InputError(
            f"Expected at most four phases, got {len(silent)} volumes whose names tell no phase; give a file or folder for each phase."
        )
    labels = ", ".join(c.source for c in silent)
    note = f"{len(silent)} volumes are left out, as their names tell no phase ({labels}); give a file or folder for each phase to use them."
    return [c for c in candidates if c.hint.phase is not None], [note]


@dataclass(frozen=True)
class Seen:
    """A volume whose phase is told by its image; sure: False where a reader has to look."""

    candidate: Candidate
    image: sitk.Image
    how: str
    sure: bool


def phases_by_brightness(
    silent: Sequence[tuple[Candidate, sitk.Image]], named: Collection[str]
) -> tuple[dict[str, Seen], list[Notice | str]]:
    """Give volumes with silent names the phases that are still free, by aorta, liver, portal vein and kidneys; also return warnings.

    Args:
        silent: candidates that no name tells, each with its canonical volume.
        named: phases that names told.

    Raises:
        InputError: more volumes than phases, or two that look like the same phase.
    """
    warnings: list[Notice | str] = []
    free = [phase for phase in PHASES if phase not in named]
    if len(silent) > len(free) and not named:
        raise InputError(
            f"Expected at most four phases, got {len(silent)} volumes whose names tell no phase; give a file or folder for each phase."
        )
    measures = [measure_enhancement(image) for _, image in silent]
    times, order = [candidate.seconds for candidate, _ in silent], [candidate.order for candidate, _ in silent]
    told_by = "" if len(silent) == 1 or None in order else " and order of acquisition" if None in times else " and time of acquisition"
    numbered = phases_by_number([candidate.hint.number for candidate, _ in silent])
    given = phases_from_images(measures, order, [candidate.hint.enhanced for candidate, _ in silent], free, times, numbered)
    found = {}
    for (candidate, image), measure, (phase, ahead), called in zip(silent, measures, given, numbered, strict=True):
        scores = measure.likelihoods()
        fits_another = phase is not None and max(scores.values()) - scores[phase] > 2 * SURE
        if phase is None or (fits_another and named):
            warnings.append(f"{candidate.source}: its name tells no phase and the image fits none that is free; it is left out.")
            continue
        if fits_another and len(silent) > 1:
            raise InputError(
                f"Expected one volume for each phase, got {len(silent)} whose names tell no phase and of which two look like the same "
                "phase; give a file or folder for each phase."
            )
        how = "image brightness" + told_by + (" and number in its name" if called else "")
        if not measure.found:
            how, ahead = "nothing but the order of the phases" if len(silent) > 1 else "nothing in name or image", 0.0
            phase = phase if len(silent) > 1 or "PVP" not in free else "PVP"  # most children get the portal venous phase only
        sure = ahead >= SURE and not fits_another and called in (None, phase)
        if not sure:
            warnings.append(
                grave(
                    f"{candidate.source}: taken as {PHASE_NAMES[phase]} ({phase}) from {how}, which is not certain; "
                    "give the phase if it is another."
                )
            )
        found[phase] = Seen(candidate, image, how, sure)
    return found, warnings


def _patient_notes(candidates: list[Candidate]) -> list[str]:
    """Refuse files of two patients; say where patient IDs differ in zeros in front only."""
    patients = [c.patient for c in candidates if c.patient is not None]
    if any(not one.may_be(other) for one in patients for other in patients):
        raise InputError("Expected phases of one patient, got files of two patients; give phases of one patient.")
    if any(one.differs_in_zeros_only(other) for one in patients for other in patients):
        return ["The patient IDs differ in zeros in front; name and birth date agree, so the files are taken as one patient's."]
    return []


def _frame_warnings(candidates: list[Candidate]) -> list[str]:
    frames = {c.frame_of_reference for c in candidates if c.frame_of_reference}
    if len(frames) < 2:
        return []
    return [grave("The phases have different frames of reference, so the patient may have been moved between them; check the alignment.")]


def _checked(phases: dict[str, PhaseVolume], warnings: list[str]) -> Exam:
    """Check what can only be seen across phases: the same series twice, extents, and brightness against names."""
    named = list(phases)
    for index, one in enumerate(named):
        for other in named[index + 1 :]:
            _refuse_twice(one, phases[one].image, other, phases[other].image)
    warnings = [*warnings, *_extent_warnings(phases)]
    from_name = {p: measure_enhancement(v.image) for p, v in phases.items() if not v.recognised.startswith("image brightness")}
    warnings += contradictions(from_name)
    return Exam(phases, tuple(dict.fromkeys(warnings)))


def _refuse_twice(one: str, first: sitk.Image, other: str, second: sitk.Image) -> None:
    if first.GetSize() != second.GetSize():
        return
    a, b = sitk.GetArrayViewFromImage(first), sitk.GetArrayViewFromImage(second)
    middle = len(a) // 2
    if np.array_equal(a[middle], b[middle]) and np.array_equal(a, b):
        raise InputError(f"Expected a series for each phase, got the same series as {one} and {other}; give each series once.")


def _extent_warnings(phases: Mapping[str, PhaseVolume]) -> list[str]:
    """Refuse phases that do not overlap the reference; warn where less than 80 % of its height is covered."""
    reference = next(phase for phase in ("PVP", "AP", "DP", "PC") if phase in phases)
    low, high = _extent(phases[reference].image)
    warnings = []
    for phase, volume in phases.items():
        low_other, high_other = _extent(volume.image)
        shared = np.minimum(high, high_other) - np.maximum(low, low_other)
        if np.any(shared <= 0):
            raise InputError(
                f"Expected phases of the same part of the body, got {phase} and {reference} that do not overlap in space; "
                "check that both are of one exam and keep their positions."
            )
        covered = shared / (high - low)
        if covered[2] < 0.8 or min(covered) < 0.5:
            text = (
                f"{phase}: covers only {100 * min(covered):.0f} % of the extent of {reference}; "
                f"what lies outside is taken as absent in {phase}."
            )
            warnings.append(Notice(text, grave=bool(min(covered) < LEAST_COVERED)))
    return warnings


def _extent(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest LPS mm of a volume's corners."""
    corners = [[side * n - 0.5 for side, n in zip(sides, image.GetSize(), strict=True)] for sides in np.ndindex(2, 2, 2)]
    points = np.array([image.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners])
    return points.min(axis=0), points.max(axis=0)
