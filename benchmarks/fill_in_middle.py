"""Expressions of a mechanism by fill-in-the-middle, beside the way that is shipped, a JSON reply.

    python benchmarks/fill_in_middle.py OUT.jsonl results/research.jsonl
    python benchmarks/fill_in_middle.py OUT.jsonl --report

For every session that the second file holds, its own specification and the record that it saw: each
way writes one source, without repair, and the whole gate judges it. In the first way the model goes
on with the class up to an expression, sees what follows it, and is held to the same names and marks
as in the other. Figures depend on the model and the seeds, not on the machine's load.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from bilevel.codec import load_log
from bilevel.gate.gate import Gate
from bilevel.gate.screening import screening
from bilevel.history import History
from bilevel.llm.embedded import TEMPERATURE, EmbeddedLLM, cores
from bilevel.llm.launch import ModelServer
from bilevel.mechanism import View
from bilevel.model import OuterPlan
from bilevel.research import authoring
from bilevel.research.authoring import Specification
from bilevel.research.frames import Frame, Local, names_of
from bilevel.research.manners import FRAMES, chosen
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.seeds import derive, generator
from research import first, rows

RESULTS = Path(__file__).parents[1] / "results"
HOLE = "<|fim_suffix|>"
LATER = "..."  # stands in a hole that is filled after this one
Ask = Callable[[Specification, View, int], str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("sessions", type=Path, nargs="?", default=RESULTS / "research.jsonl")
    parser.add_argument("--report", action="store_true", help="print what OUT holds")
    options = parser.parse_args()
    if not options.report:
        with ExitStack() as stack:
            sandbox = stack.enter_context(Sandbox())
            llm = stack.enter_context(closing(EmbeddedLLM()))
            server = ModelServer(llm.path, llm.model, cores(), 8192, 180.0, 1)
            stack.callback(server.stop)
            ways: dict[str, Ask] = {
                "middle": partial(middle, server),
                "fill": partial(fill, llm),
            }
            for row in rows(options.sessions):
                hold(options.out, row, ways, sandbox)
    report(rows(options.out))


def hold(out: Path, row: dict[str, Any], ways: dict[str, Ask], sandbox: Sandbox) -> None:
    """One source each way for a session's specification, judged, and written down."""
    key = {"run": row["run"], "evals": row["evals"], "seed": row["seed"]}
    notes = row["session"]["notes"]
    spec = authoring.parse_specification(notes["specify"], chosen(notes).when)
    if spec is None or any(key.items() <= done.items() for done in rows(out)):
        return
    text = (RESULTS / str(row["run"]) / "run.json").read_text(encoding="utf-8")
    run, records = load_log(text)
    run = replace(run, seed=row["seed"], outer=OuterPlan(research="on"))
    records = list(first(records, row["evals"]))
    history = History(run.space, records)
    rng = generator(row["seed"], "outer", row["evals"])
    view = history.view(step=len(history.proposals), slots=1, left=5, rng=rng)
    gate = Gate(run, records, tuple, sandbox, partial(screening, run, records))
    made: dict[str, Any] = {**key, "rule": spec.text()}
    for way, ask in ways.items():
        written = ask(spec, view, derive(row["seed"], "middle", row["evals"]))
        verdict = gate.judge(authoring.assembled(spec, written))
        made[way] = {"written": written, "refused": verdict.rule, "words": verdict.words}
        print(f"{row['run']} {row['evals']} {row['seed']} {way}: {written} {verdict.rule}")
    with out.open("a") as file:
        file.write(json.dumps(made) + "\n")


def fill(llm: EmbeddedLLM, spec: Specification, view: View, seed: int) -> str:
    """The shipped way: all expressions in one JSON object."""
    talk = authoring.fill(spec, view)
    shape = authoring.fill_schema(spec.frame)
    return llm.complete(talk, shape, seed=seed, max_tokens=FRAMES.source_tokens).text


def middle(server: ModelServer, spec: Specification, view: View, seed: int) -> str:
    """One hole after the other, each between what stands before and after it."""
    filled: dict[str, str] = {}
    for hole in spec.frame.holes:
        shown = {h.name: filled.get(h.name, LATER) for h in spec.frame.holes} | {hole.name: HOLE}
        filled[hole.name] = _complete(server, _prompt(spec, view, shown), _grammar(spec), seed)
    return json.dumps(filled)


def _prompt(spec: Specification, view: View, shown: dict[str, str]) -> str:
    """The class with a hole, its names explained where they are made."""
    frame = spec.frame
    explained = tuple(replace(n, code=_commented(n, view)) for n in frame.locals)
    inside = [n for n in names_of(frame) if n not in frame.locals]
    notes = [f"# {hole.name}: {hole.meaning}" for hole in frame.holes]
    notes += [f"# {n.name}: {n.meaning}" for n in inside]
    body = "\n".join([*(n.code for n in explained), *notes, frame.body.strip("\n")])
    every = Frame(frame.hook, frame.does, (), frame.holes, body)
    source = every.source(spec.name, f"{spec.text()}.", shown).replace(f"({HOLE})", HOLE)
    before, _, after = source.partition(HOLE)
    return f"<|fim_prefix|>{before}({HOLE}){after}<|fim_middle|>"


def _commented(local: Local, view: View) -> str:
    now = "" if local.now is None else f"; now {json.dumps(local.now(view))}"
    return f"{local.code}  # {local.meaning}{now}"


def _grammar(spec: Specification) -> str:
    """Expressions of the names and marks that the JSON reply may have, too."""
    properties = authoring.fill_schema(spec.frame)["properties"]
    pattern = next(iter(properties.values()))["pattern"].strip("^$").replace("/", r"\/")
    return "%llguidance {}\nstart: /" + pattern + "/"


def _complete(server: ModelServer, prompt: str, grammar: str, seed: int) -> str:
    body = {
        "prompt": prompt,
        "max_tokens": 48,
        "grammar": grammar,
        "seed": seed % 2**31,
        "temperature": TEMPERATURE,
        "cache_prompt": True,
    }
    reply = httpx2.post(
        f"{server.url}/v1/completions",
        json=body,
        headers={"Authorization": f"Bearer {server.key}"},
        timeout=600,
        trust_env=False,
    )
    reply.raise_for_status()
    return " ".join(str(reply.json()["choices"][0]["text"]).split())


def report(made: list[dict[str, Any]]) -> None:
    """Admitted or refused by rule, by way, and how many expressions differ."""
    for way in ("middle", "fill"):
        told = Counter(row[way]["refused"] or "ADMITTED" for row in made)
        different = len({re.sub(r"\s", "", row[way]["written"]) for row in made})
        print(f"{way}: {len(made)} sources, {different} different; {_listed(told)}")


def _listed(told: Counter[str]) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in told.most_common())


if __name__ == "__main__":
    main()
