"""Speed of the embedded LLM on Level 1's requests of a recorded run, each way over the same ones.

    python benchmarks/llm_speed.py --out results/llm_speed.txt
    python benchmarks/llm_speed.py --model smollm2-135m --ways shipped,naive,start

Each way starts a server of its own and sends the requests one after the other, with their seeds;
"first s" is without that start. "computed" is the server's own count of the prompt's tokens that
were not in its cache, winding the cache back included. Ratios are against the naive layout of the
same call. Run it on an idle machine: the load before each way stands in its row.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from llm_requests import Request, fits, requests
from llm_ways import USUAL, WAYS, Counts, Way, varied

import bilevel
from bilevel.llm.embedded import cores
from bilevel.llm.registry import DEFAULT
from bilevel.machine import machine
from bilevel.model import Message, Reply

RUN = Path(__file__).parents[1] / "results/demo/run.json.gz"
IDLE_SECONDS = 10.0
SPINNING = {"OMP_WAIT_POLICY": "ACTIVE"}
CHECKS = ("start", "idle")


@dataclass(frozen=True)
class Answer:
    request: Request
    reply: Reply
    counts: Counts


@dataclass(frozen=True)
class Result:
    """What came of a way. megabytes: memory of its server at the end."""

    name: str
    load: float
    answers: Sequence[Answer]
    megabytes: float

    def later(self) -> list[Answer]:
        """The proposals after the first; repairs were sent, but are none."""
        return [a for a in self.answers[1:] if a.request.purpose == "propose"]

    def median(self, figure: Callable[[Answer], float]) -> float:
        return statistics.median(figure(answer) for answer in self.later())

    def seconds(self) -> float:
        return self.median(lambda a: a.reply.seconds)

    def speeds(self) -> tuple[float, float]:
        """Tokens a second over all requests: computed of prompts, written."""
        each = [answer.counts for answer in self.answers]
        return (
            sum(c.read for c in each) / sum(c.read_seconds for c in each),
            sum(c.written for c in each) / sum(c.written_seconds for c in each),
        )


def measure(model: str, name: str, asked: Sequence[Request]) -> Result:
    way, load = WAYS[name], os.getloadavg()[0]
    answers = []
    with varied(model, way) as llm:
        before = llm.counts()
        for request in map(way.put, asked):
            reply = llm.complete(
                request.messages,
                request.schema,
                seed=request.seed,
                max_tokens=request.max_tokens,
            )
            after = llm.counts()
            answers.append(Answer(request, reply, after.since(before)))
            before = after
            progress(f"{name}: {reply.seconds:.1f} s, {reply.text!r}")
        assert llm.pid is not None
        megabytes = psutil.Process(llm.pid).memory_info().rss / 2**20
    return Result(name, load, answers, megabytes)


def starts(model: str) -> list[str]:
    """Seconds until the first token, by whether the file of the weights was in memory before."""
    lines = []
    for state in ("cold", "warm"):
        with varied(model, Way("")) as llm:
            if state == "cold":
                with llm.path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            start = time.monotonic()
            llm.complete([Message("user", "hello")], seed=0, max_tokens=1)
            seconds = time.monotonic() - start
            assert llm.pid is not None
            read = psutil.Process(llm.pid).io_counters().read_bytes / 2**20
        lines.append(
            f"Start to first token, file cache {state}: {seconds:.1f} s, "
            f"of which {read:.0f} MB were read from disk."
        )
    return lines


def idle(model: str) -> list[str]:
    """CPU seconds a second of a server that has nothing to do, as shipped and if it spins."""
    lines = []
    for name, environment in (("as shipped", {}), ("with OMP_WAIT_POLICY=ACTIVE", SPINNING)):
        with varied(model, Way("", environment=environment)) as llm:
            llm.complete([Message("user", "hello")], seed=0, max_tokens=8)
            server = psutil.Process(llm.pid)
            before = sum(server.cpu_times()[:2])
            time.sleep(IDLE_SECONDS)
            used = (sum(server.cpu_times()[:2]) - before) / IDLE_SECONDS
        lines.append(f"CPU use of the idle server {name}: {used:.3f} cores over 10 s.")
    return lines


def table(results: Sequence[Result]) -> list[str]:
    head = (
        "way", "what", "load", "first s", "s a proposal", "times faster than naive", "prompt",
        "computed (most)", "computed/s", "written", "written/s", "valid", "reply as shipped", "MB",
    )  # fmt: skip
    by_name = {result.name: result for result in results}
    shipped, naive = by_name.get("shipped"), by_name.get("naive")
    rows = [_row(result, shipped, naive) for result in results]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows)]


def _row(result: Result, shipped: Result | None, naive: Result | None) -> tuple[str, ...]:
    answers = result.answers
    right = sum(fits(a.reply.text, a.request) for a in answers)
    reading, writing = result.speeds()
    most = max(a.counts.read for a in result.later())
    return (
        result.name,
        WAYS[result.name].what,
        f"{result.load:.1f}",
        f"{answers[0].reply.seconds:.1f}",
        f"{result.seconds():.2f}",
        "-" if naive is None else f"{naive.seconds() / result.seconds():.1f}",
        f"{result.median(lambda a: a.reply.tokens_in):.0f}",
        f"{result.median(lambda a: a.counts.read):.0f} ({most})",
        f"{reading:.0f}",
        f"{result.median(lambda a: a.reply.tokens_out):.0f}",
        f"{writing:.1f}",
        f"{right}/{len(answers)}",
        _alike(result, shipped),
        f"{result.megabytes:.0f}",
    )


def _alike(result: Result, shipped: Result | None) -> str:
    if shipped is None or not WAYS[result.name].same:
        return "-"
    pairs = zip(result.answers, shipped.answers, strict=True)
    return f"{sum(a.reply.text == b.reply.text for a, b in pairs)}/{len(shipped.answers)}"


def header(model: str, run: Path, asked: Sequence[Request]) -> list[str]:
    facts = machine()
    later = sum(r.purpose == "propose" for r in asked[1:])
    return [
        f"{model} on {cores()} cores of {facts.get('processor', platform.machine())}, "
        f"{facts['system']}; Python {facts['python']}, bilevel {bilevel.__version__}, "
        f"xllamacpp {version('xllamacpp')}; load {os.getloadavg()[0]:.1f} before.",
        f"The first {len(asked)} requests of Level 1 in {'/'.join(run.parts[-2:])}; medians over "
        f"the {later} proposals after the first.",
        "",
    ]


def as_recorded(results: Sequence[Result]) -> list[str]:
    """How many replies of the shipped way are the record's, letter by letter, if of that model."""
    return [
        f"Replies as shipped that equal the record's: "
        f"{sum(a.reply.text == a.request.recorded.text for a in r.answers)} of {len(r.answers)}."
        for r in results
        if r.name == "shipped" and r.answers[0].reply.model == r.answers[0].request.recorded.model
    ]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--run", type=Path, default=RUN, help="file of a recorded run")
    parser.add_argument("--requests", type=int, default=5, help="how many of it, 2 or more")
    parser.add_argument("--ways", default=",".join([*USUAL, *CHECKS]), help="by comma")
    parser.add_argument("--out", type=Path, help="file for the table, written as it grows")
    options = parser.parse_args()
    names = options.ways.split(",")
    unknown = set(names) - {*WAYS, *CHECKS}
    if unknown:
        parser.error(f"no way is {', '.join(unknown)}; there are {', '.join([*WAYS, *CHECKS])}")
    begin, asked = time.monotonic(), requests(options.run, options.requests)
    top, results, checks = header(options.model, options.run, asked), [], []
    for name in names:
        if name in WAYS:
            results.append(measure(options.model, name, asked))
        else:
            checks += {"start": starts, "idle": idle}[name](options.model)
        took = f"Measured in {(time.monotonic() - begin) / 60:.1f} minutes."
        text = "\n".join([*top, *table(results), "", *as_recorded(results), *checks, took, ""])
        if options.out is not None:
            options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
