"""A process beside the first one."""

from __future__ import annotations

import multiprocessing
import warnings
from multiprocessing.connection import Connection

import pytest

from bilevel.compare.helpers import become_helper


def _jobs(answers: Connection) -> None:
    become_helper()
    from joblib import effective_n_jobs

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        answers.send((effective_n_jobs(-1), [str(w.message) for w in heard]))


def test_a_library_that_would_start_processes_is_told_not_to_and_does_not_warn() -> None:
    pytest.importorskip("joblib", reason="joblib comes with scikit-learn, which is not installed")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    helper = context.Process(target=_jobs, args=(theirs,), daemon=True)
    helper.start()
    assert ours.poll(60)
    assert ours.recv() == (1, [])
    helper.join(10)
