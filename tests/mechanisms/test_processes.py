"""A strategy decides the same in every process: nothing hangs on the order of a set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from trying import MIXED, go, settled

from bilevel import mechanisms
from bilevel.codec import dump
from bilevel.errors import MissingExtra

TESTS = Path(__file__).parents[1]


def decided() -> dict[str, list[str]]:
    """What each strategy whose library is there decided in a short run, by its name."""
    found = {}
    for name in mechanisms.names():
        try:
            made = mechanisms.load(name)
        except MissingExtra:
            continue
        found[name] = [dump(record) for record in settled(go(made, space=MIXED, evals=14).log)]
    return found


def in_a_process(seed: int) -> dict[str, list[str]]:
    """The same, with strings hashed by that seed."""
    places = [str(TESTS), str(Path(__file__).parent), *sys.path]
    given = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(places)}
    made = subprocess.run(
        [sys.executable, __file__], env=given, capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(made.stdout.splitlines()[-1])
    return found


def test_strategies_decide_the_same_however_strings_are_hashed() -> None:
    once, again = in_a_process(1), in_a_process(2)
    assert len(once) > 20
    assert [name for name in once if once[name] != again[name]] == []


if __name__ == "__main__":
    print(json.dumps(decided()))
