"""Suites of tests that every store, executor and task passes, also those written elsewhere.

Derive from a suite, say how to make the thing, and let pytest find the class:

    class TestMine(StoreSuite):
        def store(self, folder: Path) -> Store:
            return MyStore(folder)

A mechanism is examined without pytest, for generated ones are as well, while a run goes on:

    problems = check_mechanism(Mine)  # of bilevel.conformance.mechanism
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refuses(kind: type[Exception]) -> Iterator[None]:
    """Fails unless the block raises `kind` with a message (pytest.raises without pytest)."""
    caught = None
    try:
        yield
    except kind as error:
        caught = error
    assert caught is not None, f"no {kind.__name__} was raised"
    assert str(caught), f"the {kind.__name__} says nothing; give the rule, value and remedy"
