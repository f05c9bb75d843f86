"""A folder as it comes from a CD becomes CT series that may be a phase: headers only, no pixels.

Left out, and counted by kind: localizers, dose reports and other objects without CT pixels, screen saves, projections, bolus tracking.
One stored series becomes several where it holds several orientations, or several passes over the same positions (dynamic and
multiphase series).
"""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from .dicom_values import acquired, content_time, contrast_agent, numbers_of, seconds_of, text_of, values_of
from .energies import Energy, read_energy
from .passes import split_passes
from .patients import Patient, patient_of, refuse_two_patients
from .volume_files import files_below, is_dicom, is_directory_of_disc

if TYPE_CHECKING:
    from .dicom_values import Header

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
_DICOMDIR = "1.2.840.10008.1.3.10"

#: Two positions along the normal closer than this (mm) are the same position.
SAME_POSITION_MM = 0.02

#: No scanner is as large.
_FAR_MM = 1e5

_KINDS = (  # what a SOP class that is no CT image is called, by the start of its UID
    ("1.2.840.10008.5.1.4.1.1.88.", "dose or structured report"),
    ("1.2.840.10008.5.1.4.1.1.66.", "segmentation"),
    ("1.2.840.10008.5.1.4.1.1.7", "secondary capture"),
    ("1.2.840.10008.5.1.4.1.1.11.", "presentation state"),
    ("1.2.840.10008.5.1.4.1.1.481.", "radiotherapy object"),
    ("1.2.840.10008.5.1.4.1.1.104.", "document"),
)
_SCOUT = re.compile(r"\b(scout|topogram\w*|locali[sz]er|surview|scanogram|scano|dose report|patient protocol)\b|定位")
_TRACKING = re.compile(r"smart ?prep|bolus ?track|monitoring|care ?bolus|sure ?start|(pre)?-?monitor")
_NO_HU = re.compile(r"\b(iodine|jod|iode|vnc|vue|virtual (non|native|unenh)\w*|effective z|zeff|eff-z|perfusion|fat fraction|overlay)\b|碘")
_PROJECTIONS = {"MIP", "MINIP", "MAXIP", "VRT", "PROJECTION IMAGE", "3D", "CPR", "VOLUME_RENDERING", "SCREEN SAVE", "SCREEN_SAVE"}

_TAGS = [
    pydicom.tag.Tag(keyword)
    for keyword in (
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType", "KVP",
        "MonoenergeticEnergyEquivalent",
        "SeriesDescription", "ProtocolName", "ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusStartTime",
        "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentTime", "SeriesTime", "StudyDate", "SeriesNumber",
        "AcquisitionNumber", "InstanceNumber", "TemporalPositionIdentifier", "PatientID", "PatientName", "PatientBirthDate", "Rows",
        "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "GantryDetectorTilt",
        "ConvolutionKernel", "SamplesPerPixel", "RescaleSlope", "RescaleIntercept", "RescaleType", "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "LossyImageCompression",
    )
]  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One axial image: file and frame, position (LPS mm), rescale (slope, intercept; None where the file has none).

    `seconds` is the time of day of the acquisition, None where it is not said. `clock` falls back to when the image was made: it puts
    passes in order, but says nothing about the contrast.
    """

    path: Path
    frame: int
    position: tuple[float, float, float]
    rescale: tuple[float, float] | None
    uid: str
    instance: int
    acquisition: str
    temporal: str
    voltage: str
    seconds: float | None
    clock: float | None


@dataclass(frozen=True)
class Series:
    """Slices of one pass over the body with one orientation, in no order yet, and what their headers say.

    `number` counts the passes of one stored series in order of acquisition from 1 on, 0 where there is one only; `stack_mm` is the height
    of all its passes together.
    """

    label: str
    slices: tuple[Slice, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, float]
    size: tuple[int, int]
    description: str
    protocol: str
    folder: str
    agent: str
    bolus_seconds: float | None
    kernel: str
    image_type: tuple[str, ...]
    tilt: float
    study: str
    study_date: str
    frame_of_reference: str
    uid: str
    patient: Patient
    kev: float | None = None
    thickness: float | None = None
    lossy: bool = False
    number: int = 0
    stack_mm: float = 0.0

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def distances(self) -> np.ndarray:
        """Positions of the slices along the normal in mm, ascending."""
        return np.sort(np.array([s.position for s in self.slices]) @ self.normal)

    @property
    def height(self) -> float:
        """Distance in mm between the outermost slices."""
        return float(self.distances[-1] - self.distances[0])

    @property
    def spacing(self) -> float:
        """Usual distance between neighbouring slices in mm."""
        return float(np.median(np.diff(self.distances))) if len(self.slices) > 1 else 0.0

    @property
    def tilted(self) -> bool:
        """Tell whether the outermost slices are shifted against each other in their plane, by more than a pixel and 1 % of the height."""
        travel = np.ptp(np.array([s.position for s in self.slices]), axis=0)
        across = np.sqrt(max(0.0, float(travel @ travel) - self.height**2))
        return bool(across > max(*self.pixel_spacing, 0.01 * self.height))

    @property
    def axial(self) -> bool:
        return abs(self.normal[2]) > 0.7

    @property
    def seconds(self) -> float | None:
        """When the first slice was acquired, in seconds after midnight; None where that is not said."""
        return min((s.seconds for s in self.slices if s.seconds is not None), default=None)

    @property
    def acquisitions(self) -> frozenset[str]:
        """Acquisition numbers of the slices, as far as they are said."""
        return frozenset(s.acquisition for s in self.slices if s.acquisition)

    @property
    def voltages(self) -> frozenset[str]:
        """Tube voltages (kV) of the slices, as far as they are said."""
        return frozenset(s.voltage for s in self.slices if s.voltage)

    @property
    def energy(self) -> Energy:
        """X-ray energy the series stands for."""
        return read_energy((self.description, *self.image_type), kev=self.kev, voltages=sorted(self.voltages))

    @property
    def derived(self) -> bool:
        return "DERIVED" in self.image_type[:1]

    @property
    def sharp(self) -> bool:
        """Tell whether the kernel is one for lung or bone."""
        return is_sharp(self.kernel)


@dataclass(frozen=True)
class Disc:
    """What a folder holds: CT series that may be a phase, and sentences on what was left out or could not be read.

    `of_no_use` says the latter in a few words each, for where nothing else was found.
    """

    series: tuple[Series, ...]
    warnings: tuple[str, ...]
    of_no_use: tuple[str, ...] = ()


def is_sharp(kernel: str) -> bool:
    """Tell whether a reconstruction kernel is one for lung or bone."""
    kernel = kernel.lower()
    siemens = re.match(r"(?:[bihjuqd][a-z]?|br|hr|bl|bv|qr)(\d\d)", kernel)
    toshiba = re.match(r"fc(\d\d)", kernel)
    return bool(
        re.search(r"lung|bone|edge|sharp|detail|^y[a-e]$|^[de]$", kernel)
        or (siemens and int(siemens.group(1)) >= 50)
        or (toshiba and (30 <= int(toshiba.group(1)) < 40 or int(toshiba.group(1)) >= 50))
    )


def read_disc(folder: Path) -> Disc:
    """Find every CT series under a folder, at any depth (or in one multi-frame file), from the headers alone.

    Raises:
        InputError: too many files, or series of two patients.
        OSError: the folder cannot be opened.
    """
    headers, left_out, unreadable, duplicates, seen = [], Counter(), 0, 0, set()
    for path in [folder] if folder.is_file() else files_below(folder):
        header = None if is_directory_of_disc(path) else _read_header(path)
        if header is None:
            continue
        if isinstance(header, str):
            unreadable += 1
            continue
        if (kind := _no_ct(header)) is not None:
            left_out[kind] += 1
            continue
        uid = str(header.get("SOPInstanceUID", path))
        if uid in seen:
            duplicates += 1
            continue
        seen.add(uid)
        headers.append((path, header))
    groups = defaultdict(list)
    for path, header in headers:
        for key, image in _images(path, header, folder):
            groups[key].append(image)
    groups.pop(None, None)
    no_position = len(headers) - len({s.path for images in groups.values() for s, _ in images})
    series = []
    for images in groups.values():
        series += _passes(images)
    refuse_two_patients([s.patient for s in series])
    notes, of_no_use = [], [f"{n} x {kind}" for kind, n in sorted(left_out.items())]
    if left_out:
        notes.append(f"Left out: {', '.join(of_no_use)}.")
    if duplicates:
        notes.append(f"{duplicates} files are copies of slices that were already read (same identifier); they are left out.")
    if unreadable:
        text = f"{unreadable} files are damaged, cut short or may not be read; copy the exam again if slices are missing."
        notes.append(text)
        of_no_use.append(f"{unreadable} damaged or locked files")
    if no_position:
        notes.append(f"{no_position} CT images carry no usable position, orientation, pixel spacing or size and are left out.")
        of_no_use.append(f"{no_position} CT images without position")
    return Disc(_labelled(series), tuple(notes), tuple(of_no_use))


def _read_header(path: Path) -> Dataset | str | None:
    """Return the header, None where the file is no DICOM object, or a word on why it cannot be read."""
    try:
        if not is_dicom(path):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            stored_class = getattr(header.file_meta, "MediaStorageSOPClassUID", None)
            if stored_class == _DICOMDIR:
                return None
            if not header.get("SOPClassUID"):
                has_preamble = path.read_bytes()[128:132] == b"DICM"
                return "no SOP class" if has_preamble else None
            if stored_class is not None and str(stored_class).startswith(str(header.SOPClassUID)) and stored_class != header.SOPClassUID:
                return "SOP class cut short"
            for _ in header:  # values are decoded on access, so a broken one shows up here
                pass
            return header
    except Exception as error:  # pydicom raises nearly everything on a damaged file
        return type(error).__name__


def _no_ct(header: Dataset) -> str | None:
    """Return what an object is when it is not a CT image of use, None when it is one."""
    sop_class = str(header.SOPClassUID)
    if sop_class != _CT_IMAGE and sop_class not in _ENHANCED_CT:
        return next((kind for start, kind in _KINDS if sop_class.startswith(start)), f"{header.get('Modality', 'CT')} object")
    return no_phase(header)


def no_phase(header: Header) -> str | None:
    """Return what CT pixels are when they are no phase of an exam (a localizer, a projection, a map), None when they may be one."""
    modality = str(header.get("Modality", "CT"))
    text = text_of(header, "SeriesDescription").lower()
    image_type = {str(value).upper() for value in values_of(header.get("ImageType"))}
    if modality != "CT":
        return f"{modality} object"
    if image_type & {"LOCALIZER", "SCOUT"} or _SCOUT.search(text):
        return "localizer"
    if _TRACKING.search(text):
        return "bolus tracking image"
    if image_type & _PROJECTIONS or int(header.get("SamplesPerPixel", 1) or 1) != 1:
        return "projection or screen save"
    if _NO_HU.search(text) or text_of(header, "RescaleType") not in ("", "HU", "US", "HU_MOD"):
        return "iodine or virtual unenhanced map"
    return None


def _images(path: Path, header: Dataset, folder: Path) -> Iterable[tuple]:
    """Yield (series key, (slice, header facts)) for each image of a file; the key is None where the geometry is missing."""
    facts = (header, path.relative_to(folder).parent.name if path != folder else "")
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        yield _image(path, 0, header, {}, facts)
        return
    shared = _flat((header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0])
    for number, frame in enumerate(frames):
        yield _image(path, number, header, {**shared, **_flat(frame)}, facts)


def _flat(group: Dataset) -> dict:
    """Return the elements one level down in a functional group by keyword."""
    return {inner.keyword: inner.value for element in group if element.VR == "SQ" and element.value for inner in element.value[0]}


def _image(path: Path, frame: int, header: Dataset, group: dict, facts: tuple) -> tuple:
    def value(keyword):
        return group.get(keyword, header.get(keyword))

    position = numbers_of(value("ImagePositionPatient"), 3)
    orientation = numbers_of(value("ImageOrientationPatient"), 6)
    spacing = numbers_of(value("PixelSpacing"), 2)
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return None, None
    if not header.get("Rows") or not header.get("Columns"):
        return None, None
    if np.linalg.norm(np.cross(orientation[:3], orientation[3:])) < 0.5 or np.abs(position).max() > _FAR_MM:
        return None, None
    slope, intercept = numbers_of(value("RescaleSlope"), 1), numbers_of(value("RescaleIntercept"), 1)
    seconds = seconds_of(group.get("FrameAcquisitionDateTime") or group.get("FrameReferenceDateTime")) or acquired(header)
    image = Slice(
        path=path,
        frame=frame,
        position=position,
        rescale=(slope[0], intercept[0]) if slope and intercept else None,
        uid=f"{header.get('SOPInstanceUID', path)}#{frame}",
        instance=int(header.get("InstanceNumber") or 0) * 100_000 + frame,
        acquisition=str(group.get("FrameAcquisitionNumber") or text_of(header, "AcquisitionNumber")),
        temporal=str(group.get("TemporalPositionIndex") or header.get("TemporalPositionIdentifier") or ""),
        voltage=str(value("KVP") or "").strip(),
        seconds=seconds,
        clock=seconds or content_time(header),
    )
    key = (
        str(header.get("StudyInstanceUID")), str(header.get("SeriesInstanceUID")), tuple(np.round(orientation, 3) + 0.0),
        tuple(np.round(spacing, 4)), int(header.Rows), int(header.Columns), str(group.get("StackID", "")),
    )  # fmt: skip
    return key, (image, (*facts, orientation, spacing))


def _passes(images: Sequence[tuple]) -> list[Series]:
    """Turn the images of one series and orientation into one Series for each pass over the body."""
    header, folder, orientation, spacing = images[0][1]
    series = Series(
        label=str(header.get("SeriesNumber") or ""),
        slices=tuple(image for image, _ in images),
        orientation=orientation,
        pixel_spacing=spacing,
        size=(int(header.Columns), int(header.Rows)),
        description=text_of(header, "SeriesDescription"),
        protocol=text_of(header, "ProtocolName"),
        folder=folder,
        agent=contrast_agent(header),
        bolus_seconds=seconds_of(header.get("ContrastBolusStartTime")) or None,
        kernel="/".join(str(value) for value in values_of(header.get("ConvolutionKernel"))),
        image_type=tuple(str(value).upper() for value in values_of(header.get("ImageType"))),
        tilt=(numbers_of(header.get("GantryDetectorTilt"), 1) or (0.0,))[0],
        study=str(header.get("StudyInstanceUID", "")),
        study_date=str(header.get("StudyDate") or ""),
        frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
        uid=str(header.get("SeriesInstanceUID", "")),
        patient=patient_of(header),
        kev=(numbers_of(header.get("MonoenergeticEnergyEquivalent"), 1) or (None,))[0],
        thickness=(numbers_of(header.get("SliceThickness"), 1) or (None,))[0],
        lossy=any(text_of(facts[0], "LossyImageCompression") == "01" for _, facts in images),
    )
    refuse_two_patients([patient_of(facts[0]) for _, facts in images])
    stack = np.array([s.position for s in series.slices]) @ series.normal
    passes = split_passes(series.slices, np.round(stack / SAME_POSITION_MM).astype(int))
    numbers = range(1, len(passes) + 1) if len(passes) > 1 else (0,)
    extent = float(np.ptp(stack))
    return [replace(series, slices=slices, number=n, stack_mm=extent) for n, slices in zip(numbers, passes, strict=True)]


def _labelled(series: list[Series]) -> tuple[Series, ...]:
    """Name series by their number; those that share one get a part number, passes of one series in order of acquisition."""
    series = sorted(series, key=lambda s: (int(s.label) if s.label.lstrip("-").isdigit() else 10**9, s.number, s.seconds or 0, s.uid))
    totals, counts, labelled = Counter(s.label for s in series), Counter(), []
    for one in series:
        counts[one.label] += 1
        name = f"series {one.label}" if one.label else "unnumbered series"
        part = f" part {counts[one.label]}" if totals[one.label] > 1 else ""
        labelled.append(replace(one, label=name + part))
    return tuple(labelled)
