"""One bar for a request of many stages."""

from __future__ import annotations

import pytest
from PediatricLiverDxLib.panel.progress import DETECTION_STAGES, STAGES, Progress


class Clock:
    """Tell the time that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(stages: dict[str, float], speed: float = 1.0, steps: int = 10) -> list[tuple[float, float, float | None]]:
    """Go through stages of these seconds; returns (true fraction, fraction, seconds left) at every step."""
    clock = Clock()
    progress, total, passed, told = Progress(clock=clock), sum(stages.values()), 0.0, []
    for stage, seconds in stages.items():
        for step in range(steps):
            clock.now = 100.0 + speed * passed
            told.append((passed / total, *progress.update(stage, step / steps)))
            passed += seconds / steps
    return told


def test_the_bar_goes_forward_and_only_the_result_is_the_end():
    fractions = [fraction for _, fraction, _ in run(dict(STAGES))]
    assert fractions[0] == 0 and fractions == sorted(fractions) and fractions[-1] < 1
    progress = Progress()
    assert progress.update("write", 1.0)[0] < 1 and progress.update("write", 7.0)[0] < 1


@pytest.mark.parametrize("speed", [0.3, 1.0, 20.0])
def test_the_time_left_is_right_on_a_machine_of_any_speed(speed):
    told = run(dict(STAGES), speed)
    total = speed * sum(STAGES.values())
    assert told[0][2] is None
    assert all(left == pytest.approx((1 - true) * total, abs=0.1 * total) for true, _, left in told if left is not None)
    assert sum(left is not None for _, _, left in told) > len(told) / 2


def test_a_warm_worker_begins_at_nought_and_passed_over_stages_are_done():
    assert run({"classify": 0.5, "gate": 0.1})[0][1] == 0
    progress = Progress()
    progress.update("read", 0.0)
    before, _ = progress.update("align", 1.0)
    after, _ = progress.update("classify", 0.0)  # no detection: boxes were given
    assert after > before


def test_it_never_goes_back_whatever_comes():
    progress = Progress()
    told = [progress.update(*said)[0] for said in (("start", 0), ("align", 0.9), ("read", 0.1), ("nap", 0.5), ("align", -1), ("detect", 2))]
    assert told == sorted(told) and told[2] == told[1] and told[-1] > told[1]
    assert Progress().update("nap", 0.5) == (0.0, None)


def test_looking_for_lesions_ends_with_the_stage_that_finds_them():
    progress = Progress(DETECTION_STAGES)
    progress.update("start", 0.0)
    assert progress.update("detect", 0.99)[0] > 0.97
