"""A run: what was asked of the worker, how far it is, and whom it needs. The session (exam_session) lives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from .progress import DETECTION_STAGES, MAP_STAGES, STAGES, Progress

_STAGES_OF = {"diagnose": STAGES, "detect": DETECTION_STAGES, "map": MAP_STAGES}


class Step(Enum):
    """Say what the session is doing: nothing, handing volumes over, waiting for the worker or for it to let go, or showing its answer."""

    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SHOWING = "showing"


@dataclass(frozen=True)
class Status:
    """Hold the one line under the buttons. problem: whether something went wrong that the user has to know of."""

    text: str = ""
    problem: bool = False


class Worker(Protocol):
    """Compute in another process (panel.worker_process)."""

    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def when_ready(self, call: Callable[[Path], None]) -> None: ...
    def request(self, name: str, body: dict, *, on_progress: Callable, on_result: Callable, on_error: Callable) -> int: ...
    def cancel(self, request_id: int) -> None: ...
    def abandon_start(self) -> None: ...
    def stop(self) -> None: ...


class Installation(Protocol):
    """Know whether what the worker needs is there, and fetch it (panel.installation)."""

    def is_complete(self) -> bool: ...
    def ask_and_install(self, ask: Callable[[str], bool]) -> bool: ...


@dataclass
class Run:
    """Hold a run that is under way.

    name: "diagnose", "detect" or "map". volumes: phase -> volume node. output: where results go; None for the private folder.
    map_of: of a map, the ROI and the outcome. rois: IDs of the ROIs that were sent; asked: what the exam was like then (exam_nodes.Asked).
    on_done: called once its result is shown, with the output folder. on_failed: called when there is none.
    """

    name: str
    volumes: Mapping[str, Any]
    bundle: str
    output: Path | None = None
    report: bool = False
    map_of: tuple[Any, str] | None = None
    on_done: Callable[[Path | None], None] | None = None
    on_failed: Callable[[], None] | None = None
    progress: Progress = field(init=False)
    request_id: int | None = None
    rois: tuple[str, ...] = ()
    asked: Any | None = None
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = Progress(_STAGES_OF[self.name])
