"""Entries of a library, made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bilevel.library.library import Entry, Transfer, Use, kinds
from bilevel.model import MechanismSource
from outer_worlds import SPACE, notes, sha_of

KINDS = kinds(SPACE)


def entry(
    word: str,
    credits: Sequence[float] = (),
    task: str = "toy",
    kinds: Mapping[str, str] = KINDS,
    transfers: Sequence[Transfer] = (),
    text: str = "",
) -> Entry:
    """One whose plans carry this word as a note. credits: a use of ten decisions for each."""
    text = text or notes(word)
    return Entry(
        source=MechanismSource(sha_of(text), word, text, f"says {word}", parents=("ab" * 32,)),
        task=task,
        parameters=kinds,
        passed="the gate, in toy-1",
        run="toy-1",
        llm="scripted",
        hypotheses={"explore wastes": "it repeats itself"},
        created="2026-01-01T00:00:00+00:00",
        uses=tuple(use(i, c, task, kinds) for i, c in enumerate(credits)),
        transfers=tuple(transfers),
    )


def use(
    number: int, credit: float, task: str = "toy", kinds: Mapping[str, str] = KINDS, left: str = ""
) -> Use:
    return Use(
        key=f"{number:016}", run=f"toy-{number}", task=task, parameters=kinds, llm="scripted",
        seed=number, decisions=10, different=round(10 * credit), asked=10, changed=4, touched=5,
        kept=2, faults=0, left=left,
    )  # fmt: skip


def transfer(task: str, *gains: float) -> Transfer:
    listed = {str(seed): gain for seed, gain in enumerate(gains)}
    return Transfer(f"{task} x", task, "loss", "scripted", 8, False, listed, 0)
