"""One bar for the whole of a request, and the time that is left: from the stages that the worker tells, which never all run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

#: Share of the whole that each stage takes, in their order: seconds of a cold diagnosis of four phases of 384 x 384 x 100 on two cores.
#: "send" and "start" are the panel's own (volumes handed over, the worker starting). Only the proportions matter.
STAGES = MappingProxyType(
    {"start": 0.6, "send": 0.3, "read": 2.0, "align": 6.4, "load": 0.2, "detect": 3.0, "classify": 2.7, "gate": 0.3, "write": 0.3}
)

#: The same of a request that only looks for lesions.
DETECTION_STAGES = MappingProxyType({name: share for name, share in STAGES.items() if name not in ("classify", "gate", "write")})

#: The same of one that computes a map of a lesion: as a rule it was classified already.
MAP_STAGES = MappingProxyType({name: share for name, share in STAGES.items() if name not in ("detect", "gate", "write")})

#: Nothing is said of the time left before this many seconds have passed, and this part is done: the first stages say little of the rest.
_LEAST_SECONDS, _LEAST_DONE = 1.0, 0.1

#: How much of the newest estimate goes into the one that is shown.
_NEW = 0.3


class Progress:
    """Turn (stage, fraction of the stage) into (fraction of the whole, seconds left).

    The whole never goes back and ends below 1, which only the result is. The bar begins where the first stage does: a warm worker begins
    with "classify". A stage that is passed over later counts as done.
    """

    def __init__(self, stages: Mapping[str, float] = STAGES, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages, self._clock = stages, clock
        self._names = list(stages)
        self._began: float | None = None
        #: Where the bar began: what lies before was passed over.
        self._first = 0.0
        self._overall = 0.0
        self._left: float | None = None
        self._told = 0.0

    def update(self, stage: str, fraction: float) -> tuple[float, float | None]:
        """Return the fraction of the whole (0..1, never less than before) and the seconds left; None while that cannot be said."""
        now = self._clock()
        done = self._done(stage, fraction)
        if self._began is None:
            self._began, self._told = now, now
            self._first = self._done(stage, 0.0)
        done = max(done, self._first + self._overall * (1 - self._first))
        whole = 1 - self._first
        self._overall = min((done - self._first) / whole, 0.999) if whole > 0 else 0.0
        return self._overall, self._seconds_left(now)

    def _done(self, stage: str, fraction: float) -> float:
        """Return the share of all stages that is behind; a stage of another name leaves it where it was."""
        if stage not in self._stages:
            return 0.0
        before = sum(self._stages[name] for name in self._names[: self._names.index(stage)])
        return (before + self._stages[stage] * min(max(fraction, 0.0), 1.0)) / sum(self._stages.values())

    def _seconds_left(self, now: float) -> float | None:
        passed = now - self._began
        if passed < _LEAST_SECONDS or self._overall < _LEAST_DONE:
            return None
        estimate = passed / self._overall * (1 - self._overall)
        if self._left is None:
            self._left = estimate
        else:
            # between two estimates time goes by; a jump of one is not shown at once
            expected = max(self._left - (now - self._told), 0.0)
            self._left = expected + _NEW * (estimate - expected)
        self._told = now
        return self._left
