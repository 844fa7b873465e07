"""Sessions of Level 2 on recorded runs: how many end with a mechanism, and what refused the rest.

    python benchmarks/research.py OUT.jsonl results/gpt-30/run.json results/gpt-30-wide/run.json
    python benchmarks/research.py OUT.jsonl --report

Each session sees a run cut off after some evaluations, as Level 2 would have seen it there, and is
judged by the whole gate on that record, screening included. A session that OUT holds already is not
held again. Figures depend on the model and the seeds, not on the machine's load; seconds do.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from bilevel.codec import dump, load_log
from bilevel.gate.gate import Gate
from bilevel.gate.screening import screening
from bilevel.history import History
from bilevel.llm.connect import connect
from bilevel.model import Call, OuterPlan, Proposal, Record, Trial
from bilevel.protocols import LLM
from bilevel.research.dialogue import Researcher
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.seeds import generator
from bilevel.tape.tape import Tape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--evals", type=int, nargs="+", default=[10, 15, 20, 25, 30])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--llm", default="embedded")
    parser.add_argument("--candidates", type=int, default=OuterPlan().candidates)
    parser.add_argument("--repairs", type=int, default=OuterPlan().repairs)
    parser.add_argument("--domains", choices=["hint", "none"], default="none")
    parser.add_argument("--report", action="store_true", help="print what OUT holds")
    options = parser.parse_args()
    if not options.report:
        with closing(connect(options.llm)) as llm, Sandbox() as sandbox:
            hold_all(options, llm, sandbox)
    report(rows(options.out))


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def hold_all(options: argparse.Namespace, llm: LLM, sandbox: Sandbox) -> None:
    plan = OuterPlan(
        research="on",
        candidates=options.candidates,
        repairs=options.repairs,
        domains=options.domains,
    )
    for seed in options.seeds:
        for evals in options.evals:
            for path in options.runs:
                key = {"run": path.parent.name, "evals": evals, "seed": seed, "llm": llm.name}
                key |= {"plan": asdict(plan)}
                if any(key.items() <= row.items() for row in rows(options.out)):
                    continue
                row = key | hold(path, evals, seed, plan, llm, sandbox)
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(line(row), flush=True)


def hold(
    path: Path, evals: int, seed: int, plan: OuterPlan, llm: LLM, sandbox: Sandbox
) -> dict[str, Any]:
    run, records = load_log(path.read_text(encoding="utf-8"))
    run, records = replace(run, seed=seed, outer=plan), list(first(records, evals))
    history = History(run.space, records)
    calls: list[Call] = []
    gate = Gate(run, records, tuple, sandbox, partial(screening, run, records))
    researcher = Researcher(run, history, Tape(run.llm, llm, record=calls.append), gate.judge)
    rng, left = generator(seed, "outer", evals), run.evals - history.evaluated()
    view = history.view(step=len(history.proposals), slots=1, left=max(left, 5), rng=rng)
    start = time.monotonic()
    session = researcher.hold(view, evals // plan.every, [])
    return {
        "seconds": round(time.monotonic() - start, 1),
        "calls": [
            [c.purpose, c.reply.tokens_in, c.reply.tokens_cached, c.reply.tokens_out] for c in calls
        ],
        "session": json.loads(dump(session)),
    }


def first(records: Sequence[Record], evals: int) -> Iterator[Record]:
    """The records up to where the next step after that many evaluations would begin."""
    done = 0
    for record in records:
        done += isinstance(record, Trial) and record.role == "search"
        if done >= evals and isinstance(record, Proposal | Call):
            return
        if isinstance(record, Trial) and record.role != "search" and done:
            return
        yield record


def line(row: dict[str, Any]) -> str:
    attempts = row["session"]["attempts"]
    went = (
        ", ".join(f"{a['way']} {a['rule'] or 'ADMITTED'}" for a in attempts) or "no specification"
    )
    return f"{row['run']} after {row['evals']}, seed {row['seed']}: {went} ({row['seconds']:.0f} s)"


def report(held: Sequence[dict[str, Any]]) -> None:
    """Counts over all sessions, and what refused the attempts."""
    sessions = [row["session"] for row in held]
    attempts = [a for s in sessions for a in s["attempts"]]
    ended = [s["attempts"][-1] for s in sessions if s["admitted"]]
    counts = {
        "sessions started": len(sessions),
        "with a specification that parsed": sum(bool(s["attempts"]) for s in sessions),
        "ended with an admitted mechanism": len(ended),
        "  at the first attempt": sum(
            bool(s["admitted"]) and len(s["attempts"]) == 1 for s in sessions
        ),
        "  after repair": sum(a["way"] == "repair" for a in ended),
        "  of influence above zero": sum(a["figures"]["influence"] > 0 for a in ended),
        "  different sources": len({a["sha"] for a in ended}),
    }
    for what, count in counts.items():
        print(f"{what}: {count}")
    print(f"attempts: {len(attempts)}; admitted or refused by rule, by way of asking:")
    for (way, rule), count in sorted(Counter((a["way"], a["rule"]) for a in attempts).items()):
        print(f"  {way:9} {rule or 'admitted':12} {count}")


if __name__ == "__main__":
    main()
