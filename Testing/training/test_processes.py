"""Processes that read a step's exams keep to one thread each."""

from __future__ import annotations

import numpy as np

from training.processes import process_pool


def threads() -> tuple[int, int]:
    """Return the threads of linear algebra, the most of any library, and those of SimpleITK."""
    import SimpleITK as sitk
    from threadpoolctl import threadpool_info

    np.ones((64, 64)) @ np.ones((64, 64))
    return max(library["num_threads"] for library in threadpool_info()), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()


def test_each_process_has_one_thread(monkeypatch):
    # what `make test` sets would hide that the pool does it
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with process_pool(1) as pool:
        assert pool.submit(threads).result() == (1, 1)
