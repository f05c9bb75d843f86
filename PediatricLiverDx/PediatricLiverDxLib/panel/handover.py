"""An exam's volumes become files in the worker's folder, a slab a turn of the event loop; what lies there already is not written again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..phase_files import exam_key, writing_phase
from ..vocabulary import PHASES


class Handover:
    """Write volumes for the worker. later(ms, call): the event loop's timer."""

    def __init__(self, later: Callable[[int, Callable[[], None]], None]) -> None:
        self._later = later
        self._folder: Path | None = None
        #: phase -> exam_key of the volume as it lies in the folder.
        self._keys: dict[str, tuple] = {}

    def forget(self) -> None:
        """Know of no folder any more: its worker has gone."""
        self._folder, self._keys = None, {}

    def files(self, volumes: Mapping[str, Any]) -> dict[str, str]:
        """Return phase -> path of what was written."""
        return {phase: str(self._file(phase)) for phase in volumes}

    def holds(self, volumes: Mapping[str, Any]) -> bool:
        """Tell whether all volumes (phase -> node) lie in the folder as they are now."""
        return all(self._is_there(phase, volume) for phase, volume in volumes.items())

    def begin(
        self,
        folder: Path,
        volumes: Mapping[str, Any],
        *,
        is_wanted: Callable[[], bool],
        on_phase: Callable[[str], None],
        on_part: Callable[[float], None],
        on_done: Callable[[list[str]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Write the volumes (phase -> node) that the folder does not hold as they are now.

        is_wanted: asked between slabs; where it is not, nothing more is called and nothing half-written stays. on_phase: told each phase
        before it is written; on_part: the part of all that is done; on_done: sentences on what had to be resampled; on_error: InputError
        where a volume cannot be written.
        """
        if folder != self._folder:
            self._folder, self._keys = folder, {}
        phases, warnings = [phase for phase in PHASES if phase in volumes], []

        def next_phase(left: Sequence[str]) -> None:
            while left and self._is_there(left[0], volumes[left[0]]):
                left = left[1:]
            if not left:
                on_done(warnings)
                return
            phase = left[0]
            self._keys.pop(phase, None)
            on_phase(phase)
            key = exam_key({phase: volumes[phase]})
            writing = writing_phase(volumes[phase], self._file(phase))
            self._later(0, lambda: guarded(lambda: next_slab(writing, key, left)))

        def next_slab(writing: Iterator[float], key: tuple, left: Sequence[str]) -> None:
            if not is_wanted():
                writing.close()
                return
            try:
                part = next(writing)
            except StopIteration as end:
                warnings.extend([end.value] if end.value else [])
                self._keys[left[0]] = key
                next_phase(left[1:])
                return
            on_part((phases.index(left[0]) + part) / len(phases))
            self._later(0, lambda: guarded(lambda: next_slab(writing, key, left)))

        def guarded(step: Callable[[], None]) -> None:
            try:
                step()
            except Exception as error:
                on_error(error)

        guarded(lambda: next_phase(phases))

    def _is_there(self, phase: str, volume: Any) -> bool:
        return self._keys.get(phase) == exam_key({phase: volume}) and self._file(phase).exists()

    def _file(self, phase: str) -> Path:
        return self._folder / f"{phase}.nrrd"
