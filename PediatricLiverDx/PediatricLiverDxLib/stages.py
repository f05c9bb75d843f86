"""What a diagnosis from files to files is made of: an exam read and aligned, networks, a scene; in this process, or each in its own.

In processes of their own (Linux), SimpleITK, the networks and Slicer's core are never in memory together: four phases of
256 x 256 x 64 take half of the memory, and what they import, they import side by side.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .apart import Apart, Line, SharedMemory, can_work_apart
from .bundle import Networks, available_cores, load_networks, open_classifier, open_detector, read_bundle, shipped_bundle
from .concurrency import in_order
from .heap import return_free_memory
from .outputs import SceneHere
from .private_folder import remove_abandoned
from .vocabulary import InputError
from .volumes import AlignedExam, Exam, rounded

if TYPE_CHECKING:
    import onnxruntime

    from .detection import Detector
    from .diagnosis import Diagnosis, Progress

#: Voxels that are rounded at a time.
_SLAB_VOXELS = 1 << 20


@dataclass(frozen=True)
class Request:
    """Hold what is to be read: a study or files by phase, and whether its phases are to be aligned."""

    study: Path | None
    files: Mapping[str, Path] | None
    align: bool


@dataclass(frozen=True)
class ReadExam:
    """Hold an exam, the same aligned, and the seconds that it took by stage."""

    exam: Exam
    aligned: AlignedExam
    timings_s: dict[str, float]


def read_and_align(request: Request, tell: Progress, empty: Callable[[tuple[int, ...]], np.ndarray] | None = None) -> ReadExam:
    """Read an exam and align it; it comes without its images. empty: as in alignment.align. Raises InputError as both do."""
    from .alignment import align
    from .exam import read_exam

    started = time.perf_counter()
    try:
        exam = read_exam(request.study, request.files)
    except OSError as error:
        raise InputError(f"The exam cannot be read ({error.strerror or error}); give a folder or files that can be read.") from None
    light = exam.without_images()
    return_free_memory()
    read = time.perf_counter()
    tell("align", 0.0, "Aligning the phases")

    def told(text: str, fraction: float) -> None:
        tell("align", fraction, text)
        # of the phase before
        return_free_memory()

    aligned = align(exam, request.align, told, empty, consume=True)
    return ReadExam(light, aligned, {"read": read - started, "align": time.perf_counter() - read})


class OneProcess:
    """Do everything in this process, the networks beside the reading."""

    def read(self, request: Request, networks: Future, tell: Progress) -> ReadExam:
        def told(*said: str | float) -> None:
            if networks.done():  # a bundle that cannot be used is said at once
                networks.result()
            tell(*said)

        return read_and_align(request, told)

    def networks(self, folder: Path | None, detector: bool) -> Networks:
        return load_networks(folder or shipped_bundle())

    def scene(self) -> SceneHere:
        return SceneHere()

    def close(self) -> None:
        """Leave nothing behind."""


class OwnProcesses:
    """Read and align in a process of its own, which is forked at once, and write the scene in another, when the networks are gone."""

    def __init__(self) -> None:
        # what is there by now stays, and what comes is imported: nothing to look through for what is not needed any more
        gc.freeze()
        gc.disable()
        self._volumes = SharedMemory()
        self._processes = [Apart(self._read)]

    def read(self, request: Request, networks: Future, tell: Progress) -> ReadExam:
        (reader,) = self._processes
        reader.tell(request)
        while (said := reader.wait())[0] != "done":
            if networks.done():  # a bundle that cannot be used is said at once
                networks.result()
            tell(*said)
        found: ReadExam = said[1]
        shape = (len(found.aligned.present), *found.aligned.grid.size_xyz[::-1])
        return replace(found, aligned=found.aligned.with_voxels(self._volumes.array(shape)))

    def _read(self, line: Line) -> ReadExam:
        (request,) = line.wait()
        found = read_and_align(request, line.tell, self._volumes.array)
        return replace(found, aligned=found.aligned.with_voxels(np.empty(0)))

    def networks(self, folder: Path | None, detector: bool) -> NetworksInTurn:
        networks = NetworksInTurn(folder or shipped_bundle())
        if detector:
            _ = networks.detector
        return networks

    def scene(self) -> SceneApart | SceneHere:
        if not can_work_apart():
            return SceneHere()
        try:
            self._processes.append(Apart(self._write))
        except OSError:
            return SceneHere()
        return SceneApart(self._processes[-1], self._volumes)

    def _write(self, line: Line) -> None:
        here = SceneHere()
        line.tell(here.why_not())
        diagnosis, aligned, path, shape = line.wait()
        here.write(diagnosis, aligned.with_voxels(self._volumes.array(shape, np.int16)), path)

    def close(self) -> None:
        for process in self._processes:
            process.end()
        # pixels that one of them had for a decoder when it ended
        remove_abandoned(Path(tempfile.gettempdir()))


class SceneApart:
    """A scene that another process writes; as outputs.SceneHere. Its import of Slicer's core begins at once."""

    def __init__(self, writer: Apart, volumes: SharedMemory) -> None:
        self._writer, self._volumes = writer, volumes

    def take(self, aligned: AlignedExam) -> AlignedExam:
        """Round the voxels in place, in half of their memory, and return the exam with what they are now."""
        hu = aligned.hu.reshape(-1)
        voxels = self._volumes.array(aligned.hu.shape, np.int16)
        flat = voxels.reshape(-1)
        # what is written lies where everything was read already
        for start in range(0, hu.size, _SLAB_VOXELS):
            flat[start : start + _SLAB_VOXELS] = rounded(hu[start : start + _SLAB_VOXELS])
        self._volumes.cut(voxels.nbytes)
        return aligned.with_voxels(voxels)

    def why_not(self) -> str:
        return self._writer.wait()[0]

    def write(self, diagnosis: Diagnosis, aligned: AlignedExam, path: Path) -> None:
        lesions = tuple(replace(lesion, composites=None, cam_slices=None) for lesion in diagnosis.lesions)
        self._writer.tell(replace(diagnosis, lesions=lesions), aligned.with_voxels(np.empty(0)), path, aligned.hu.shape)
        self._writer.wait()


class NetworksInTurn:
    """Networks of a bundle as bundle.Networks, of which only those are in memory that are used: the detector, then the classifiers.

    Every hash is checked at the beginning; inputs, outputs and their shapes when a network is opened. Raises InputError for either.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.threads = threads or available_cores()
        self._folder = folder
        read = read_bundle(folder)
        self.bundle = replace(read, files={})
        self._detector_file = {name: read.files[name] for name in (read.document["detector"]["file"],)}
        backbones = self.bundle.document["classifiers"]
        self.weights = {backbone: self.bundle.head(backbone)[0] for backbone in backbones}
        self.temperatures = {backbone: self.bundle.temperatures(backbone) for backbone in backbones}
        self.shares = {backbone: self.bundle.shares(backbone) for backbone in backbones}

    composite_size = Networks.composite_size

    def check(self) -> None:
        """Open what was not used, as the classifiers where no lesion was found: a bundle is refused for any of its networks."""
        if self._detector_file:
            _ = self.detector
        if "classifiers" not in vars(self):
            _ = self.classifiers

    @cached_property
    def detector(self) -> Detector:
        detector = open_detector(replace(self.bundle, files=self._detector_file), self.threads)
        self._detector_file = {}
        return_free_memory()
        return detector

    @cached_property
    def classifiers(self) -> Mapping[str, onnxruntime.InferenceSession]:
        vars(self).pop("detector", None)
        return_free_memory()
        # read again, hashes and all: 25 MB that the reading of the exam had no room for
        read = read_bundle(self._folder)
        if read.info.sha256 != self.bundle.info.sha256:
            raise InputError(f"The bundle {self._folder.name} was exchanged while it was in use; diagnose the exam again.")
        files = dict(read.files)
        del read
        names = {backbone: classifier["file"] for backbone, classifier in self.bundle.document["classifiers"].items()}
        # opening takes several times a file's size for a moment: the largest one by itself
        first, *others = sorted(names, key=lambda backbone: -len(files[names[backbone]]))

        def opened(backbone: str) -> onnxruntime.InferenceSession:
            name = names[backbone]
            return open_classifier(replace(self.bundle, files={name: files.pop(name)}), backbone)

        sessions = {first: opened(first)}
        return_free_memory()
        sessions.update(zip(others, in_order(opened, others, self.threads), strict=True))
        return_free_memory()
        return {backbone: sessions[backbone] for backbone in names}


def stages(own_processes: bool) -> OneProcess | OwnProcesses:
    """Return how to work: in processes of their own where that is wanted and can be done."""
    if own_processes and can_work_apart():
        with suppress(OSError):  # no more processes, or no memory for one
            return OwnProcesses()
    return OneProcess()
