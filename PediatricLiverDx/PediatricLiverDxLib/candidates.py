"""What a study folder or a given path offers: volumes that may be a phase, with what is known about each before any pixel is read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from .hounsfield import MAX_SLICES, MAX_VOXELS, MIN_SLICES, canonical_hu
from .notices import Notice, about, grave
from .phases import phase_words_of_folder, readings
from .recognition import Hint, hint_of_acquisition, read_hint
from .vocabulary import PHASES, InputError
from .volume_files import (
    files_below,
    geometry_doubts,
    is_dicom,
    is_directory_of_disc,
    is_volume_file,
    may_be_phase,
    read_volume_file,
    stem,
    suffix,
)

if TYPE_CHECKING:
    from .acquisitions import Acquisitions
    from .dicom import Disc, Series
    from .patients import Patient

#: Of several reconstructions of one phase, the one with slices nearest to this distance (mm) is used: thin enough for small lesions,
#: not noisy.
BEST_SPACING_MM = 2.0

#: A series that covers less than this part of the stack is passed over, as it may miss the liver.
LEAST_COVERED = 0.4


@dataclass(frozen=True)
class Candidate:
    """A volume that may be a phase: what it is called, what words and times say, how to read it, and whose it is.

    `order` grows with the time of acquisition among the volumes of one study that no name tells; `seconds` is that time where it is known.
    `source` is neutral ("series 3", "PVP volume (.nrrd)") and stands in results and warnings. `name` is a file's base name, which may be
    the patient's; it stands in refusals only, which are shown to whoever chose the file and kept nowhere.
    """

    source: str
    name: str
    hint: Hint
    read: Callable[[], tuple[sitk.Image, tuple[str, ...]]]
    seconds: float | None = None
    order: float | None = None
    patient: Patient | None = None
    frame_of_reference: str = ""

    def volume(self, phase: str = "") -> tuple[sitk.Image, list[str]]:
        """Return the canonical volume in HU, and warnings that call it by phase and source.

        Raises:
            InputError: it cannot be read or used; the message begins with its name.
        """
        label = f"{phase} ({self.source})" if phase and not self.source.startswith(phase) else self.source
        image, notes = self.read()
        try:
            image, hu_notes = canonical_hu(image, label)
        except InputError as error:
            raise InputError(str(error).replace(label, f"{phase} ({self.name})" if phase else self.name, 1)) from error
        return image, [*notes, *hu_notes]


def candidates_of_study(study: Path) -> tuple[list[Candidate], list[str]]:
    """Return what a folder, a single file, or the folder of a DICOMDIR offers, at most one candidate for each named phase, and warnings.

    Raises:
        InputError: nothing of use, two files for one phase, or files of two patients.
        OSError: nothing can be read.
    """
    if not study.exists():
        raise InputError("Expected a folder with the exam, found nothing at that path; check the path.")
    if not study.is_dir() and not study.is_file():
        raise InputError("Expected a folder with the exam, got something that is neither a folder nor a file; check the path.")
    if is_directory_of_disc(study):
        study = study.parent
    paths = files_below(study) if study.is_dir() else [study]
    if not paths:
        raise InputError("Expected a folder with DICOM, NIfTI, NRRD or MetaImage files, got one without any file; check the path.")
    volumes = [path for path in paths if is_volume_file(path)]
    if _any_dicom(paths, fail=not volumes):
        from .dicom import read_disc  # pydicom takes a while to import: only where there is DICOM

        disc = read_disc(study)
        if disc.series or not volumes:
            chosen, notes = _choose_series(disc)
            notes = [*disc.warnings, *notes]
            if volumes:
                notes.append(f"{len(volumes)} volume files lie beside the DICOM series; they are left out.")
            return _in_order(chosen), notes
    return _of_files(study, volumes)


def _any_dicom(paths: Sequence[Path], fail: bool) -> bool:
    """Tell whether one of the files is DICOM; where none is, raise the OSError of one that cannot be read, or take it for another kind."""
    locked = None
    for path in paths:
        try:
            if is_dicom(path):
                return True
        except OSError as error:
            locked = error
    if locked is not None and fail:
        raise locked
    return False


def candidate_of_path(path: Path, phase: str) -> tuple[Candidate, list[str]]:
    """Return the volume at a path given for one phase: a volume file, a multi-frame DICOM file, or a folder that holds one phase."""
    if not path.exists():
        raise InputError(f"{phase}: expected a file or folder, found nothing named {path.name}; check the path.")
    if path.is_file() and not is_directory_of_disc(path) and not is_dicom(path):
        if not is_volume_file(path):
            raise InputError(f"{phase}: expected a NIfTI, NRRD, MetaImage or DICOM file, got {path.name}; convert it.")
        source = f"{phase} volume ({suffix(path)})"
        return Candidate(source, path.name, Hint(None, False, ""), partial(_read_file, path, source)), []
    found, notes = candidates_of_study(path)
    fitting = [c for c in found if c.hint.phase == phase] or found
    if len(fitting) > 1:
        raise InputError(f"{phase}: expected one series, got {len(fitting)} that may be meant; give a folder that holds this phase only.")
    return fitting[0], [about(phase, note) for note in notes]


def _read_file(path: Path, source: str) -> tuple[sitk.Image, tuple[str, ...]]:
    image = read_volume_file(path)
    return image, geometry_doubts(path, image, source)


def _in_order(chosen: Sequence[tuple[Series, Hint]]) -> list[Candidate]:
    """Return series as candidates; those that no name tells know their order."""
    from .acquisitions import order_of_acquisition

    silent = [series for series, hint in chosen if hint.phase is None]
    order = dict(zip((s.label for s in silent), order_of_acquisition(silent), strict=True))
    return [_of_series(series, hint, order.get(series.label)) for series, hint in chosen]


def _of_series(series: Series, hint: Hint, order: float | None) -> Candidate:
    from .dicom_volume import series_image

    read = partial(series_image, series)
    return Candidate(series.label, series.label, hint, read, series.seconds, order, series.patient, series.frame_of_reference)


def _of_files(study: Path, paths: Sequence[Path]) -> tuple[list[Candidate], list[str]]:
    if not paths:
        raise InputError("Expected DICOM, NIfTI, NRRD or MetaImage files, found none of them; give the folder of one exam.")
    phases = [path for path in paths if may_be_phase(path)] or paths
    masks = [path for path in paths if path not in phases]
    kinds = ", ".join(sorted({suffix(path) for path in masks}))
    notes = [f"{len(masks)} volume files ({kinds}) are left out: by their names they hold masks, fields or results."] if masks else []
    candidates, taken = [], {}
    for number, path in enumerate(phases, 1):
        parts = path.relative_to(study).parts[:-1] if path != study else ()
        folders = [("folder name", phase_words_of_folder(part)) for part in reversed(parts)]
        hint = read_hint([("file name", stem(path)), *folders])
        if hint.phase in taken:
            raise InputError(
                f"Expected one file for each phase, got {taken[hint.phase]} and {path.name} that both say {hint.phase}; "
                "give one file for each phase."
            )
        if hint.phase:
            taken[hint.phase] = path.name
        source = f"{hint.phase} volume ({suffix(path)})" if hint.phase else f"volume {number} ({suffix(path)})"
        candidates.append(Candidate(source, path.name, hint, partial(_read_file, path, source)))
    return candidates, notes


def _choose_series(disc: Disc) -> tuple[list[tuple[Series, Hint]], list[str]]:
    """Choose the study and one series for each phase; the rest is named in warnings."""
    from .acquisitions import Acquisitions, without_blank_times  # they need pydicom

    notes, of_no_use = [], list(disc.of_no_use)
    usable = [s for s in disc.series if len(s.slices) >= MIN_SLICES]
    if short := len(disc.series) - len(usable):
        notes.append(f"{short} CT series have fewer than {MIN_SLICES} slices and are left out.")
        of_no_use.append(f"{short} CT series of fewer slices")
    if not usable:
        found = ", ".join(of_no_use) or "none"
        raise InputError(f"Expected a CT series of at least {MIN_SLICES} slices, found {found}; give the folder of the whole exam.")
    usable, study_notes = _one_study(without_blank_times(usable))
    axial = [s for s in usable if s.axial]
    if axial and len(axial) < len(usable):
        notes.append(f"{len(usable) - len(axial)} coronal or sagittal series are left out.")
    usable = axial or usable
    acquisitions = Acquisitions(usable)
    hints = _shared_hints(usable, acquisitions)
    chosen = []
    for phase in PHASES:
        fitting = sorted((s for s in usable if hints[s.label].phase == phase), key=lambda s: _rank(s, usable))
        if fitting:
            chosen.append((fitting[0], hints[fitting[0].label]))
            notes += _height_notes(phase, fitting[0], usable)
            notes += _pass_notes(phase, fitting) + _energy_notes(phase, fitting[0])
        if len(fitting) > 1:
            notes.append(_choice(phase, fitting))
    silent = [s for s in usable if hints[s.label].phase is None]
    for group in _grouped(silent, acquisitions):
        fitting = sorted(group, key=lambda s: _rank(s, usable))
        chosen.append((fitting[0], hints[fitting[0].label]))
        notes += _energy_notes(fitting[0].label, fitting[0])
        if len(fitting) > 1:
            notes.append(_choice("One acquisition", fitting))
    return chosen, [*study_notes, *notes]


def _choice(what: str, fitting: Sequence[Series]) -> str:
    kernel = "sharp" if fitting[0].sharp else "soft or standard"
    energy = f", {fitting[0].energy}" if len({s.energy for s in fitting}) > 1 else ""
    others = ", ".join(s.label for s in fitting[1:])
    used = f"{fitting[0].label} is used ({fitting[0].spacing:.2g} mm, {kernel} kernel{energy})"
    return f"{what}: {len(fitting)} series fit; {used}, not {others}."


def _energy_notes(what: str, series: Series) -> list[Notice]:
    if not series.energy.low:
        return []
    return [
        grave(
            f"{what}: expected an image as at 120 kV, got only one at {series.energy}, in which contrast looks brighter than the networks "
            "know it; export the mixed image or one at 70 keV."
        )
    ]


def _height_notes(phase: str, series: Series, usable: Sequence[Series]) -> list[Notice]:
    """Refuse a small part of a stack, doubt a series that is low beside another; the best of those that fit is judged."""
    longest = max(s.height for s in usable)
    if series.height < LEAST_COVERED * series.stack_mm:
        stored = series.label.partition(" part")[0]
        raise InputError(
            f"{phase}: expected a pass over the whole stack, got parts of {stored} of which the best covers "
            f"{series.height:.0f} of {series.stack_mm:.0f} mm; give one series for each phase."
        )
    if series.height < LEAST_COVERED * longest:
        return [
            grave(
                f"{phase}: {series.label} covers {series.height:.0f} mm, another series of the exam {longest:.0f} mm; "
                "check that it holds the whole liver."
            )
        ]
    return []


def _pass_notes(phase: str, fitting: Sequence[Series]) -> list[Notice]:
    """Doubt a name that stands on several passes over the body."""
    best = fitting[0]
    passes = [s for s in fitting if s.uid == best.uid and s.voltages == best.voltages and s.height >= LEAST_COVERED * s.stack_mm]
    if len(passes) < 2:
        return []
    return [
        grave(
            f"{phase}: one series of that name holds {len(passes)} passes over the body; {best.label} is used, "
            "give the phase if it is another."
        )
    ]


def _one_study(series: Sequence[Series]) -> tuple[list[Series], list[str]]:
    """Keep the study that names most phases; of equals the latest, then the one with most slices."""
    studies = defaultdict(list)
    for one in series:
        studies[one.study].append(one)
    if len(studies) == 1:
        return list(series), []

    def worth(study):
        named = {_hint(s).phase for s in studies[study]} - {None}
        return len(named), studies[study][0].study_date, sum(len(s.slices) for s in studies[study])

    best = max(studies, key=worth)
    labels = ", ".join(s.label for s in studies[best])
    return studies[best], [
        f"The folder holds {len(studies)} studies; the one with {labels} is used. Give the folder of one study to use another."
    ]


def _hint(series: Series) -> Hint:
    folder = "" if series.patient.is_named_in(series.folder) else series.folder
    texts = [
        *[("series description", reading) for reading in readings(series.description)],
        *[("folder name", phase_words_of_folder(reading)) for reading in readings(folder)],
        *[("protocol name", reading) for reading in readings(series.protocol)],
    ]
    return hint_of_acquisition(texts, series.seconds, series.bolus_seconds, series.agent)


def _shared_hints(series: Sequence[Series], acquisitions: Acquisitions) -> dict[str, Hint]:
    """Return the hint of each series by label; a silent one takes over the phase of a series of the same acquisition."""
    own = {s.label: _hint(s) for s in series}
    hints = dict(own)
    for one in series:
        if own[one.label].phase is None:
            for other in series:
                phase = own[other.label].phase
                if phase is not None and acquisitions.same(one, other):
                    hints[one.label] = Hint(phase, phase != "PC", f"same acquisition as {other.label}, {own[other.label].how}")
                    break
    return hints


def _grouped(series: Sequence[Series], acquisitions: Acquisitions) -> list[list[Series]]:
    """Group series that were reconstructed from one acquisition."""
    groups: list[list[Series]] = []
    for one in series:
        for group in groups:
            if acquisitions.same(one, group[0]):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _rank(series: Series, all_series: Sequence[Series]) -> tuple:
    """Sort key, best first.

    Fits in memory, straight, covers the abdomen, has the usual energy, not a lung or bone kernel, original, slices near BEST_SPACING_MM
    apart.
    """
    longest = max(s.height for s in all_series)
    coverage = series.height / longest if longest > 0 else 1.0
    too_large = len(series.slices) > MAX_SLICES or len(series.slices) * series.size[0] * series.size[1] > MAX_VOXELS
    return (
        too_large, series.tilted, coverage < LEAST_COVERED, series.energy.distance, series.sharp, series.derived,
        abs(math.log(max(series.spacing, 0.1) / BEST_SPACING_MM)), series.number, series.label,
    )  # fmt: skip
