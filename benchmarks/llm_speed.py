"""Speed of the embedded LLM: seconds a proposal, tokens read and written a second.

    python benchmarks/llm_speed.py --model qwen2.5-coder-1.5b --threads 1 2

Prompts are synthetic but shaped like the proposer's: rules and parameters, a history that grows
by a line a step, a request. Run it on an idle machine: the load is printed beside the figures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import psutil

from bilevel.llm.embedded import EmbeddedLLM, cores
from bilevel.llm.registry import DEFAULT
from bilevel.model import Message

PARAMETERS = ("DEPTH", "WIDTH", "HEADS", "BATCH", "LR", "WARMUP", "DECAY", "BETA", "CLIP", "SEED")
RULES = "You tune the training of a small GPT. Change one or two parameters.\n" + "\n".join(
    f"{name}: float from {n / 10} to {n * 8}, default {n * 2}, what it does in a few words"
    for n, name in enumerate(PARAMETERS, 1)
)
SCHEMA = {
    "type": "object",
    "properties": {
        "hypothesis": {"type": "string", "maxLength": 200},
        "name": {"enum": list(PARAMETERS)},
        "value": {"type": "number"},
    },
    "required": ["hypothesis", "name", "value"],
    "additionalProperties": False,
}


def prompt(trials: int) -> list[Message]:
    lines = "\n".join(
        f"#{n} {PARAMETERS[n % 10]} {n * 3 % 17} -> {n * 5 % 19} val_bpb {3.5 - n % 7 / 50:.4f} "
        f"{'kept' if n % 5 == 0 else 'dropped'}"
        for n in range(trials)
    )
    return [
        Message("system", RULES),
        Message("user", f"History:\n{lines}\n\nThe incumbent is #{trials // 2}. Propose one."),
    ]


def measure(model: str, threads: int, trials: int, steps: int, most: int) -> str:
    llm = EmbeddedLLM(model, threads=threads)
    start = time.monotonic()
    llm.complete([Message("user", "hello")], seed=0, max_tokens=1)
    ready = time.monotonic() - start
    cold = llm.complete(prompt(trials), seed=0, max_tokens=1)
    warm = llm.complete(prompt(trials + 1), seed=0, max_tokens=1)
    replies = [
        llm.complete(prompt(trials + 2 + n), SCHEMA, seed=n, max_tokens=most) for n in range(steps)
    ]
    assert llm.pid is not None
    memory = psutil.Process(llm.pid).memory_info().rss / 2**20
    llm.close()
    seconds = statistics.median(r.seconds for r in replies)
    written = statistics.median(r.tokens_out / (r.seconds - warm.seconds) for r in replies)
    return (
        f"| {threads} | {ready:.1f} | {cold.tokens_in} | {cold.seconds:.1f} "
        f"| {(cold.tokens_in - cold.tokens_cached) / cold.seconds:.0f} "
        f"| {warm.tokens_in - warm.tokens_cached} | {warm.seconds:.1f} "
        f"| {statistics.median(r.tokens_out for r in replies):.0f} | {written:.1f} "
        f"| {seconds:.1f} | {memory:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores()}))
    parser.add_argument("--trials", type=int, default=20, help="lines of history at the start")
    parser.add_argument("--steps", type=int, default=5, help="proposals to time")
    parser.add_argument("--max-tokens", type=int, default=150)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{options.model}, {cores()} cores, load {load:.1f} before\n")
    print(
        "| threads | start s | prompt | cold s | read/s | of it new when warm | warm s "
        "| reply | written/s | s a proposal | MB |"
    )
    print("|" + "---|" * 11)
    for threads in options.threads:
        row = measure(options.model, threads, options.trials, options.steps, options.max_tokens)
        print(row, flush=True)


if __name__ == "__main__":
    main()
