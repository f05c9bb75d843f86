"""The slices of one stored series become passes over the body: scanners put several phases, or several voltages, into one series."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .dicom import Slice

#: A pass has at least this many slices and spans at least this part of the stack: less is a rotation of the tube, or a repeated corner.
MIN_SLICES_OF_PASS = 3
LEAST_OF_STACK = 0.25

#: More passes than this in one series are looked for only where a tag or the instance numbers name them.
_MOST_BY_TIME = 6

#: Pauses between passes are longer than any pause within one, by this factor at least.
_PAUSE = 2.0


def split_passes(slices: Sequence[Slice], places: np.ndarray) -> list[tuple[Slice, ...]]:
    """Part slices into passes over the body, in order of acquisition, by the first of these that tells passes apart.

    Temporal position, acquisition number, tube voltage; pauses in the times of the slices; instance numbers at which the position jumps
    back; else, where every position occurs equally often, the k-th in order of time belongs to pass k. Exact times are never compared:
    they tick within a pass. Slices that cannot be parted stay together.

    Args:
        slices: of one series and orientation.
        places: position of each along the normal, in units within which positions are the same.
    """
    place = {image.uid: int(at) for image, at in zip(slices, places, strict=True)}
    ways = (
        *(_by_tag(slices, tag) for tag in ("temporal", "acquisition", "voltage")),
        *_by_pauses(slices),
        _by_jumps(slices, place),
        _by_turn(slices, place),
    )
    for groups in ways:
        if _are_passes(groups, place):
            return [tuple(group) for group in groups]
    return [tuple(slices)]


def _are_passes(groups: list[list[Slice]], place: dict[str, int]) -> bool:
    """Tell whether groups lie over each other, each with one slice at a position and over a good part of the stack."""
    if len(groups) < 2 or min(len(group) for group in groups) < MIN_SLICES_OF_PASS:
        return False
    at = [{place[s.uid] for s in group} for group in groups]
    if any(len(places) < len(group) for places, group in zip(at, groups, strict=True)):
        return False
    low, high = np.array([min(places) for places in at]), np.array([max(places) for places in at])
    part = (high - low) / max(1, high.max() - low.min())
    over_each_other = max(int(((low <= z) & (z < high)).sum()) for z in low)
    # Chest, liver and abdomen: each pair overlaps, though not all three do.
    together = over_each_other == len(groups) or (over_each_other > 1 and part.sum() >= 1.5)
    return bool(part.min() >= LEAST_OF_STACK) and together


def _by_tag(slices: Sequence[Slice], tag: str) -> list[list[Slice]]:
    groups = _grouped(slices, lambda s: getattr(s, tag))
    values = list(groups)
    if tag != "voltage" and all(value.lstrip("-").isdigit() for value in values):
        return [groups[value] for value in sorted(values, key=int)]
    return sorted(groups.values(), key=lambda group: min(_when(s) for s in group))


def _by_pauses(slices: Sequence[Slice]) -> list[list[list[Slice]]]:
    """Cut where the times pause longest, into as many passes as may be; each number of passes is one way."""
    if any(s.clock is None for s in slices):
        return []
    ordered = sorted(slices, key=_when)
    pauses = np.diff([s.clock for s in ordered])
    longest = np.argsort(-pauses, kind="stable")
    ways = []
    for cuts in range(min(_MOST_BY_TIME, len(ordered)) - 1, 0, -1):
        within = pauses[longest[cuts]] if cuts < len(pauses) else 0.0
        if pauses[longest[cuts - 1]] > _PAUSE * within:
            ways.append(_cut(ordered, longest[:cuts] + 1))
    return ways


def _by_jumps(slices: Sequence[Slice], place: dict[str, int]) -> list[list[Slice]]:
    """Cut where the position stands still or turns back, in the order of the instance numbers."""
    if len({s.instance for s in slices}) < len(slices):
        return []
    ordered = sorted(slices, key=lambda s: s.instance)
    steps = np.sign(np.diff([place[s.uid] for s in ordered]))
    cuts, direction = [], 0
    for index, step in enumerate(steps, 1):
        if step == 0 or step * direction < 0:
            cuts.append(index)
            direction = 0
        else:
            direction = step
    return _cut(ordered, cuts)


def _by_turn(slices: Sequence[Slice], place: dict[str, int]) -> list[list[Slice]]:
    """Give the k-th slice at each position to pass k, where every position occurs equally often and times differ."""
    at_place = _grouped(slices, lambda s: place[s.uid])
    if len({len(group) for group in at_place.values()}) > 1 or len({s.clock for s in slices}) == 1:
        return []
    return [list(one_pass) for one_pass in zip(*(sorted(group, key=_when) for group in at_place.values()), strict=True)]


def _when(one: Slice) -> tuple[float, int]:
    return one.clock or 0.0, one.instance


def _grouped(slices: Sequence[Slice], key: Callable[[Slice], Hashable]) -> dict[Hashable, list[Slice]]:
    groups = defaultdict(list)
    for one in slices:
        groups[key(one)].append(one)
    return dict(groups)


def _cut(ordered: Sequence[Slice], cuts: Sequence[int]) -> list[list[Slice]]:
    borders = [0, *sorted(int(cut) for cut in cuts), len(ordered)]
    return [list(ordered[start:end]) for start, end in itertools.pairwise(borders)]
