"""The volumes of a scene become an exam: which is which phase, whose they are, and what the worker is sent. MRML only, RAS mm.

Phases are told by the rules that hold for files: by names and DICOM tags first, and where those are silent by the image. No voxel is
touched where names tell all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .lesion_nodes import roi_of
from .lesion_results import LESION_ATTRIBUTE
from .phase_files import voxels_of
from .vocabulary import PHASES, InputError
from .volume_nodes import voxels_to_ras
from .worker_requests import roi_document

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .candidates import Candidate

#: DICOM keywords that tell something here; more do no harm.
TAGS = (
    "SeriesDescription", "ProtocolName", "SeriesNumber", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "Modality", "ImageType",
    "RescaleType", "ConvolutionKernel", "KVP", "AcquisitionDateTime", "AcquisitionTime", "AcquisitionNumber", "ContrastBolusAgent",
    "ContrastBolusRoute", "ContrastBolusStartTime", "PatientID", "PatientName", "PatientBirthDate",
)  # fmt: skip

#: Volumes below this spacing (mm) are averaged before their brightness is measured, which is then as good and ten times as fast.
_FINE_MM = 1.4

#: Voxels that are averaged between two breaths of the window: about 10 ms.
_SLAB_VOXELS = 1 << 22

#: What a user of files is told to do, and what a user of volumes.
_INSTEAD = {
    "give a file or folder for each phase to use them": "choose the phases by hand to use them",
    "give a file or folder for each phase": "choose the phases by hand",
    "give the phase if it is another": "choose another volume for it if that is wrong",
}


@dataclass(frozen=True)
class PhaseAssignment:
    """Say which volume is a phase, how that was recognised ("volume name 'arterial'"), and whether it is sure."""

    node: Any
    how: str
    sure: bool


@dataclass(frozen=True)
class _Volume:
    """A volume that may be a phase, and what its header says."""

    node: Any
    name: str
    tags: Mapping[str, Any]
    candidate: Candidate
    coarse: _Coarse
    spacing: float
    height: float
    is_axial: bool


def no_tags(node: Any) -> Mapping[str, str]:
    """Know nothing of where a volume came from."""
    return {}


def assign_phases(
    volumes: Sequence[Any], tags_of: Callable[[Any], Mapping[str, str]] = no_tags
) -> tuple[dict[str, PhaseAssignment], list[str]]:
    """Tell the phases of loaded volumes, at once; see `assigning_phases`."""
    steps = assigning_phases(volumes, tags_of)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def assigning_phases(
    volumes: Sequence[Any], tags_of: Callable[[Any], Mapping[str, str]] = no_tags
) -> Generator[None, None, tuple[dict[str, PhaseAssignment], list[str]]]:
    """Tell the phases of loaded volumes, with breaks for the event loop where voxels are looked at.

    Args:
        volumes: volume nodes in the order of the scene.
        tags_of: DICOM keyword (TAGS) -> text for a volume that came from a DICOM database, values of one element parted by backslashes.

    Returns:
        phase -> volume, in the order of PHASES, and sentences for the user on what was left out or has to be looked at. They hold the names
        of volumes: to be shown, not to be logged.

    Raises:
        InputError: volumes of two patients, more volumes than phases whose names say nothing, or two that look like the same phase.
    """
    found, notes = _usable(volumes, tags_of)
    found, study_notes = _one_study(found)
    notes += study_notes
    if two := same_patient([volume.node for volume in found], tags_of):
        raise InputError(two)
    named: dict[str, _Volume] = {}
    for phase in PHASES:
        fitting = sorted((v for v in found if v.candidate.hint.phase == phase), key=lambda v: _rank(v, found))
        if fitting:
            named[phase] = fitting[0]
            notes += _choice(phase, fitting)
    assigned = {phase: PhaseAssignment(volume.node, volume.candidate.hint.how, True) for phase, volume in named.items()}
    silent = []
    for volume in (v for v in found if v.candidate.hint.phase is None):
        twin = next((phase for phase, other in named.items() if _same_acquisition(volume, other)), None)
        if twin:
            notes.append(f"{volume.name} was acquired together with {named[twin].name}, which is used as {twin}; it is left out.")
        else:
            silent.append(volume)
    if silent and len(assigned) == len(PHASES):
        notes += [f"{volume.name}: its name tells no phase, and all four phases are there; it is left out." for volume in silent]
    elif silent:
        seen, seen_notes = yield from _by_brightness(silent, named)
        assigned |= seen
        notes += seen_notes
    return {phase: assigned[phase] for phase in PHASES if phase in assigned}, notes


def same_patient(nodes: Sequence[Any], tags_of: Callable[[Any], Mapping[str, str]] = no_tags) -> str | None:
    """Return a sentence where volumes are of two patients by their DICOM tags; None where nothing speaks for it."""
    from .patients import patient_of

    patients = list(dict.fromkeys(patient_of(tags) for node in nodes if (tags := tags_of(node))))
    if all(one.may_be(other) for one in patients for other in patients):
        return None
    return "Expected phases of one patient, got volumes of two patients; choose phases of one patient."


def roi_body(roi: Any) -> dict[str, Any]:
    """Return a ROI node as requests hold it: its box as it is shown, named by the node's ID. Raises InputError where it has none yet."""
    return {**roi_document(roi_of(roi)), "id": roi.GetID()}


def _usable(volumes: Sequence[Any], tags_of: Callable[[Any], Mapping[str, str]]) -> tuple[list[_Volume], list[str]]:
    """Leave out what cannot be a phase by what it is called and how it lies, before any voxel is read."""
    from .hounsfield import MIN_SLICES
    from .volume_files import may_be_phase

    found, notes = [], []
    for node in volumes:
        image = node.GetImageData()
        if image is None or node.IsA("vtkMRMLLabelMapVolumeNode") or node.GetAttribute(LESION_ATTRIBUTE) is not None:
            continue
        tags = {keyword: str(value).strip() for keyword, value in tags_of(node).items()}
        volume = _volume_of(node, tags)
        # a file's suffix is nothing to be read
        if not may_be_phase(Path(volume.name.replace("/", " "))):
            notes.append(f"{volume.name}: by its name it holds a mask, a field or a result; it is left out.")
        elif sorted(image.GetDimensions())[0] < MIN_SLICES:
            notes.append(f"{volume.name}: it has fewer than {MIN_SLICES} slices; it is left out.")
        elif kind := _no_phase(tags):
            notes.append(f"{volume.name}: it is no phase but a {kind}; it is left out.")
        else:
            found.append(volume)
    axial = [volume for volume in found if volume.is_axial]
    if axial:
        notes += [f"{volume.name}: coronal or sagittal; it is left out." for volume in found if not volume.is_axial]
        found = axial
    return found, notes


def _volume_of(node: Any, tags: Mapping[str, str]) -> _Volume:
    from .candidates import Candidate
    from .dicom_values import acquired, contrast_agent, seconds_of
    from .patients import patient_of
    from .phases import readings
    from .recognition import hint_of_acquisition

    name = node.GetName() or "a volume without a name"
    texts = [
        *[("series description", reading) for reading in readings(tags.get("SeriesDescription", ""))],
        *[("volume name", reading) for reading in readings(name)],
        *[("protocol name", reading) for reading in readings(tags.get("ProtocolName", ""))],
    ]
    seconds = acquired(tags)
    hint = hint_of_acquisition(texts, seconds, seconds_of(tags.get("ContrastBolusStartTime")) or None, contrast_agent(tags))
    number = tags.get("AcquisitionNumber", "")
    coarse = _Coarse(node, name)
    candidate = Candidate(
        source=name,
        name=name,
        hint=hint,
        read=lambda: (coarse.image(), ()),
        seconds=seconds,
        order=seconds if seconds is not None else float(number) if number.isdigit() else None,
        patient=patient_of(tags) if tags else None,
        frame_of_reference=tags.get("FrameOfReferenceUID", ""),
    )
    # the thickest axis is that between slices
    steps = voxels_to_ras(node)[:3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    slices = int(np.argmax(spacing)) if spacing.max() > 1.01 * spacing.min() else 2
    size = np.array(node.GetImageData().GetDimensions())
    is_axial = not tags or abs(steps[2, slices]) > 0.7 * spacing[slices]
    return _Volume(node, name, tags, candidate, coarse, float(spacing[slices]), float(np.abs(steps[2]) @ size), is_axial)


def _no_phase(tags: Mapping[str, str]) -> str | None:
    if not tags:
        return None
    from .dicom import no_phase  # pydicom takes a while to import: only where there is DICOM

    return no_phase({**tags, "ImageType": tags.get("ImageType", "").split("\\"), "Modality": tags.get("Modality") or "CT"})


def _one_study(volumes: list[_Volume]) -> tuple[list[_Volume], list[str]]:
    """Keep the study that names most phases, of equals the latest, and what is of no study."""
    studies = list(dict.fromkeys(v.tags["StudyInstanceUID"] for v in volumes if v.tags.get("StudyInstanceUID")))
    if len(studies) < 2:
        return volumes, []

    def worth(study: str) -> tuple:
        members = [v for v in volumes if v.tags.get("StudyInstanceUID") == study]
        named = {v.candidate.hint.phase for v in members} - {None}
        return len(named), max(v.tags.get("StudyDate", "") for v in members), len(members)

    best = max(studies, key=worth)
    kept = [v for v in volumes if v.tags.get("StudyInstanceUID", "") in ("", best)]
    names = ", ".join(v.name for v in kept)
    return kept, [f"The volumes are of {len(studies)} studies; the one with {names} is used. Choose the phases by hand to use another."]


def _rank(volume: _Volume, others: Sequence[_Volume]) -> tuple:
    """Sort key, best first, as for files: covers the abdomen, usual energy, no lung or bone kernel, original, slices near 2 mm apart."""
    from .candidates import BEST_SPACING_MM, LEAST_COVERED
    from .energies import read_energy

    tags = volume.tags
    image_type = [value.upper() for value in tags.get("ImageType", "").split("\\")]
    energy = read_energy((tags.get("SeriesDescription", ""), *image_type), kev=None, voltages=[tags["KVP"]] if tags.get("KVP") else [])
    sharp = False
    if kernel := tags.get("ConvolutionKernel", ""):
        from .dicom import is_sharp

        sharp = is_sharp(kernel.replace("\\", "/"))
    short = volume.height < LEAST_COVERED * max(other.height for other in others)
    return short, energy.distance, sharp, "DERIVED" in image_type[:1], abs(math.log(max(volume.spacing, 0.1) / BEST_SPACING_MM))


def _choice(phase: str, fitting: Sequence[_Volume]) -> list[str]:
    if len(fitting) == 1:
        return []
    others = ", ".join(volume.name for volume in fitting[1:])
    return [f"{phase}: {len(fitting)} volumes fit; {fitting[0].name} is used ({fitting[0].spacing:.2g} mm), not {others}."]


def _same_acquisition(one: _Volume, other: _Volume) -> bool:
    """Tell whether two volumes were reconstructed from one acquisition, as far as times say; times cut to minutes say nothing."""
    from .acquisitions import SAME_ACQUISITION_S

    a, b = one.candidate.seconds, other.candidate.seconds
    if a is None or b is None or abs(a - b) > SAME_ACQUISITION_S or (a % 60 == 0 and b % 60 == 0):
        return False
    numbers = {volume.tags.get("AcquisitionNumber", "") for volume in (one, other)} - {""}
    return len(numbers) < 2


def _by_brightness(
    silent: Sequence[_Volume], named: Mapping[str, _Volume]
) -> Generator[None, None, tuple[dict[str, PhaseAssignment], list[str]]]:
    """Give volumes that no name tells the phases that are still free."""
    from .exam import phases_by_brightness, without_crowd

    volumes = {id(volume.candidate): volume for volume in silent}
    assigned: dict[str, PhaseAssignment] = {}
    try:
        candidates, notes = without_crowd([volume.candidate for volume in (*named.values(), *silent)])
        read = []
        for candidate in (candidate for candidate in candidates if id(candidate) in volumes):
            try:
                yield from volumes[id(candidate)].coarse.averaging()
                read.append((candidate, candidate.volume()[0]))
            except InputError as error:
                notes.append(f"Left out: {error}")
            yield
        if read:
            seen, warnings = phases_by_brightness(read, named)
            assigned = {phase: PhaseAssignment(volumes[id(one.candidate)].node, one.how, one.sure) for phase, one in seen.items()}
            notes += warnings
    except InputError as error:
        raise InputError(_for_the_panel(str(error))) from None
    return assigned, [_for_the_panel(note) for note in notes]


def _for_the_panel(sentence: str) -> str:
    """Say what to do where volumes are chosen and no files are given."""
    for files, volumes in _INSTEAD.items():
        sentence = sentence.replace(files, volumes)
    return sentence


class _Coarse:
    """A volume where it lies by itself, fine voxels averaged: enough to measure its brightness."""

    def __init__(self, node: Any, name: str) -> None:
        self._node, self._name = node, name
        self._averaged: np.ndarray | None = None
        self._factors: list[int] = []

    def averaging(self) -> Iterator[None]:
        """Average the voxels, with a break after every few slices. Raises InputError as voxels_of does."""
        voxels, to_ras = voxels_of(self._node, self._name), voxels_to_ras(self._node)
        spacing = np.linalg.norm(to_ras[:3, :3], axis=0)
        self._factors = [max(1, min(int(_FINE_MM / s), n // 64)) for s, n in zip(spacing, voxels.shape[::-1], strict=True)]
        factors = self._factors[::-1]
        slices = [n // f for n, f in zip(voxels.shape, factors, strict=True)]
        step = factors[0] * max(1, _SLAB_VOXELS // (voxels[0].size * factors[0]))
        parts = []
        for start in range(0, slices[0] * factors[0], step):
            parts.append(_averaged(voxels[start : min(start + step, slices[0] * factors[0])], factors))
            yield
        self._averaged = np.concatenate(parts)

    def image(self) -> sitk.Image:
        """Return the averaged volume."""
        import SimpleITK as sitk

        for _break in self.averaging() if self._averaged is None else ():
            pass
        steps = voxels_to_ras(self._node)[:3, :3]
        spacing = np.linalg.norm(steps, axis=0)
        image = sitk.GetImageFromArray(self._averaged)
        to_lps, to_ras = np.diag([-1.0, -1.0, 1.0]), voxels_to_ras(self._node)
        image.SetSpacing([float(s * f) for s, f in zip(spacing, self._factors, strict=True)])
        image.SetOrigin((to_lps @ (to_ras @ [*((np.array(self._factors) - 1) / 2), 1])[:3]).tolist())
        image.SetDirection((to_lps @ (steps / spacing)).ravel().tolist())
        return image


def _averaged(voxels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Average blocks of voxels; whole numbers stay whole, as grey values and labels are told apart by that."""
    size = [n // f for n, f in zip(voxels.shape, factors, strict=True)]
    total = np.zeros(size, np.float32)
    for start in np.ndindex(*factors):
        total += voxels[tuple(slice(s, s + n * f, f) for s, n, f in zip(start, size, factors, strict=True))]
    total /= math.prod(factors)
    return total if voxels.dtype.kind == "f" else np.rint(total).astype(np.int32)
