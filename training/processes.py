"""Processes that share a step's exams, each with one thread: more would only wait for each other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tqdm import tqdm


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of `workers` fresh processes, in each of which numpy, scipy and SimpleITK work with one thread.

    They take every core by default. On two cores, two processes that did generated phantoms at a quarter of
    the speed of two that do not.
    """
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread)


def in_processes(function: Callable[..., Any], jobs: Sequence[tuple], workers: int, text: str) -> list[Any]:
    """Return what `function` gives for each job's arguments, in their order; text: of the progress bar. One worker is this process."""
    if workers <= 1:
        return [function(*job) for job in tqdm(jobs, desc=text, unit="exam")]
    with process_pool(workers) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        return [future.result() for future in tqdm(futures, desc=text, unit="exam")]


def _one_thread() -> None:
    # what is not loaded yet could not be limited
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    import SimpleITK as sitk
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
