"""What a study's report says, section by section, as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from bilevel.describe import one_line
from bilevel.study import figures
from bilevel.study import report_tables as tables
from bilevel.study.analysis import Comparison, TaskResult
from bilevel.study.arm_results import Currency
from bilevel.study.data import StudyData
from bilevel.study.report_document import Block, Code, Figure, Heading, Paragraph, Points
from bilevel.study.report_words import (
    Numbers,
    arm_sentence,
    comparison_sentence,
    few_sentence,
    numbers,
    rules,
    verdict_sentence,
)
from bilevel.study.verdicts import Answer

LIBRARIES = ("matplotlib", "numpy", "scipy")
CURRENCIES: tuple[Currency, ...] = ("tokens", "seconds")


@dataclass(frozen=True)
class Extra:
    """What a report says beyond the data. command: that made it.

    title, blocks: a section of its own, for what an imported study had published.
    """

    command: str = ""
    title: str = ""
    blocks: Sequence[Block] = ()


def sections(
    data: StudyData, results: Sequence[TaskResult], found: Sequence[Answer], extra: Extra
) -> Iterator[Block]:
    """The whole report: answers, tasks, mechanisms, rules, and how it was made."""
    digits = {r.task: numbers(arm.gain for arm in r.arms) for r in results}
    yield Heading(1, f"Study {one_line(data.name)}")
    if data.question:
        yield Paragraph(data.question)
    yield Paragraph(_state(data))
    if found:
        yield Heading(2, "Answers")
        yield tables.verdict_table(found)
        yield Points([verdict_sentence(a) for a in found])
        yield tables.contest_table(found, digits)
    if extra.blocks:
        yield Heading(2, extra.title)
        yield from extra.blocks
    for number, result in enumerate(results, 1):
        prefix = f"{number}-" if len(results) > 1 else ""
        yield from _task(data.of(result.task), result, digits[result.task], prefix)
    yield from _mechanisms(data)
    yield Heading(2, "How to read it")
    yield Points([*rules(data)])
    yield from _provenance(data, extra)


def _state(data: StudyData) -> str:
    done = sum(r.status == "done" for r in data.runs)
    return (
        f"{done} of {len(data.runs)} runs are done: {len(data.arms)} arms, "
        f"{data.evals} evaluations a run, on {', '.join(map(one_line, data.tasks))}."
    )


def _task(data: StudyData, task: TaskResult, digits: Numbers, prefix: str) -> Iterator[Block]:
    yield Heading(2, f"Task {one_line(task.task)}")
    yield Paragraph(_measured(task, digits))
    yield Points([*_sentences(task, digits)])
    yield Heading(3, "What was found")
    yield tables.found_table(task, digits)
    yield Paragraph(_target(task, digits))
    if any(arm.n for arm in task.arms):
        yield from _curves(data, task, prefix)
        yield Heading(3, "Gain of every run")
        yield tables.run_table(data, digits)
        yield from _differences(data, task, digits, prefix)
        yield from _costs(data, task, digits, prefix)
        yield Heading(3, "What was proposed")
        yield tables.habit_table(task)
    problems = [f"{one_line(a.arm)}, {one_line(p)}" for a in task.arms for p in a.problems]
    if problems:
        yield Heading(3, "Runs without a result")
        yield Points(problems)


def _measured(task: TaskResult, digits: Numbers) -> str:
    goal = "lower" if task.direction == "min" else "higher"
    said = (
        f"The metric is {one_line(task.metric)}, {goal} is better. Gains count from a run's own "
        "baseline, positive when better."
    )
    if task.noise is not None:
        sd = digits.value(task.noise)
        said += f" One measurement of the baseline has an sd of {sd} over seeds."
    if task.uneven:
        said += (
            " Runs of one repeat began at different baselines: a gain holds the luck of its "
            "baseline, so that best values are compared as well."
        )
    return said


def _sentences(task: TaskResult, digits: Numbers) -> Iterator[str]:
    few = few_sentence(task)
    if few is not None:
        yield few
    for arm in task.arms:
        yield arm_sentence(arm, digits)
    for row in (*task.against_reference, *task.against_strongest):
        yield comparison_sentence(row, digits)


def _target(task: TaskResult, digits: Numbers) -> str:
    if task.target is not None:
        target = f"{one_line(task.metric)} {digits.value(task.target)}"
    elif task.target_gain is not None:
        target = f"a gain of {digits.value(task.target_gain)}, half of the largest mean gain"
    else:
        return "No arm has a gain, so that there is no target to count evaluations to."
    return (
        f"Evaluations to target: until {target}; the median over runs, those that never got there "
        "counted as later than all others."
    )


def _curves(data: StudyData, task: TaskResult, prefix: str) -> Iterator[Block]:
    name = f"{prefix}running-best"
    caption = "Best value so far: every run (thin) and the mean of each arm (thick)."
    yield Figure(name, figures.running_best(data, name), caption)
    name = f"{prefix}arms"
    caption = f"The same, a panel an arm; grey is the mean of {one_line(task.reference)}."
    yield Figure(name, figures.panels(data, task.reference, name), caption)


def _differences(
    data: StudyData, task: TaskResult, digits: Numbers, prefix: str
) -> Iterator[Block]:
    """A figure and a table for each comparison that has a row."""
    reference = one_line(task.reference)
    strongest = f"the strongest control, {one_line(task.strongest or '')}"
    parts: tuple[tuple[str, str, tuple[Comparison, ...]], ...] = (
        ("reference", f"Paired differences from {reference}", task.against_reference),
        ("strongest", f"Paired differences from {strongest}", task.against_strongest),
        ("fresh", f"Gains of the winners on fresh seeds, over those of {reference}", task.fresh),
        ("values", f"Best values, over those of {reference}", task.by_value),
    )
    for part, title, rows in parts:
        if rows:
            name = f"{prefix}{part}"
            yield Heading(3, title)
            yield Figure(
                name,
                figures.forest(data, rows, name),
                "Mean difference, positive is better, with its 95 % interval: bootstrap (thick) "
                "and Student's t (thin).",
            )
            yield tables.difference_table(rows, digits)


def _costs(data: StudyData, task: TaskResult, digits: Numbers, prefix: str) -> Iterator[Block]:
    yield Heading(3, "What it cost")
    yield tables.cost_table(task)
    for currency in CURRENCIES:
        rows = task.at_cost[currency]
        if rows:
            name = f"{prefix}{currency}"
            yield Heading(3, f"At equal total cost in {currency}")
            yield Paragraph(
                "Both runs of a pair are stopped when they have spent what the cheaper one spent "
                "in all; what each had found by then is compared."
            )
            caption = f"Mean gain over {currency} spent, all levels together."
            yield Figure(name, figures.by_cost(data, currency, name), caption)
            yield tables.difference_table(rows, digits)


def _mechanisms(data: StudyData) -> Iterator[Block]:
    found = [(run, m) for run in data.runs for m in run.mechanisms]
    if not found:
        return
    joined = sum(m.joined is not None for _, m in found)
    acted = sum(m.changed > 0 for _, m in found)
    yield Heading(2, "Mechanisms")
    yield Paragraph(
        f"{joined} of {len(found)} were on a stack, and {acted} changed a decision. Influence: "
        "share of the decisions that it was asked for and changed. Credit: share of the run's "
        "decisions that differ when the run is decided again without it."
    )
    yield tables.mechanism_table(found)
    for sha, mechanism in {m.sha: m for _, m in found}.items():
        yield Code(mechanism.source, f"{one_line(mechanism.name)}, {sha[: tables.SHA_DIGITS]}")


def _provenance(data: StudyData, extra: Extra) -> Iterator[Block]:
    yield Heading(2, "How it was made")
    if extra.command:
        yield Code(extra.command)
    yield Points([*_facts(data)])
    about = [f"{one_line(a)}: {one_line(text)}" for a, text in data.about.items() if text]
    if about:
        yield Heading(3, "Arms")
        yield Points(about)
    if data.file:
        yield Code(data.file, "The study file")


def _facts(data: StudyData) -> Iterator[str]:
    yield f"study file, sha256: {data.file_hash}"
    if data.llm:
        yield f"LLM: {one_line(data.llm)}"
    for task, sha in sorted(data.fingerprints.items()):
        yield f"task {one_line(task)}, sha256: {sha}"
    for version in sorted({r.version for r in data.runs if r.version}):
        yield f"made with bilevel {version}"
    machines = {", ".join(f"{k} {v}" for k, v in r.machine.items()) for r in data.runs if r.machine}
    for machine in sorted(machines):
        yield f"machine: {one_line(machine)}"
    dates = sorted(r.created for r in data.runs if r.created)
    if dates:
        yield f"runs begun: {dates[0]} to {dates[-1]}"
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield f"statistics and figures: {libraries}"
