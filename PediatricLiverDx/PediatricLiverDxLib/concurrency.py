"""Independent pieces of work go in, their results come out in order, as many at a time as there are cores to use.

A network with one thread on each of two batches is faster than a network with two threads on one batch, and preparing the next batch
goes on meanwhile; ONNX Runtime and numpy's products let Python's other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield function(item) in the items' order, `threads` at a time; what has not begun is dropped when the caller stops or raises."""
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
