"""What a study's report says, section by section, as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bilevel.describe import one_line
from bilevel.study import figures
from bilevel.study import report_tables as tables
from bilevel.study.analysis import FIGURES, Comparison, TaskResult
from bilevel.study.arm_results import CURRENCIES, Currency, spent
from bilevel.study.data import StudyData, StudyMechanism
from bilevel.study.figures import Drawing, Pen
from bilevel.study.report_document import Block, Code, Figure, Heading, Paragraph, Points
from bilevel.study.report_gaps import ended_early, fresh_sentences, gaps
from bilevel.study.report_provenance import looks, provenance, warnings
from bilevel.study.report_words import (
    Numbers,
    arm_sentence,
    comparison_sentence,
    few_sentence,
    numbers,
    rules,
    strongest_sentence,
    verdict_sentence,
)
from bilevel.study.verdicts import Answer

WORDS: dict[Currency, str] = {"tokens": "tokens", "seconds": "seconds", "usd": "US dollars"}


@dataclass(frozen=True)
class Extra:
    """What a report says beyond the data. command: that made it.

    title, blocks: a section of its own, for what an imported study had published.
    """

    command: str = ""
    title: str = ""
    blocks: Sequence[Block] = ()


def sections(
    data: StudyData,
    results: Sequence[TaskResult],
    found: Sequence[Answer],
    extra: Extra,
    pen: Pen,
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
        part = Part(data.of(result.task), result, digits[result.task], prefix, pen)
        yield from _task(part)
    yield from _mechanisms(data)
    yield Heading(2, "How to read it")
    yield Points([*rules(data), *looks(data)])
    yield from provenance(data, extra.command)


def _state(data: StudyData) -> str:
    done = sum(r.status == "done" for r in data.runs)
    return (
        f"{done} of {len(data.runs)} runs are done: {len(data.arms)} arms, "
        f"{data.evals} evaluations a run, on {', '.join(map(one_line, data.tasks))}."
    )


@dataclass(frozen=True)
class Part:
    """One task of a report. prefix: of its figures' names."""

    data: StudyData
    task: TaskResult
    digits: Numbers
    prefix: str
    pen: Pen


def _task(part: Part) -> Iterator[Block]:
    data, task, digits = part.data, part.task, part.digits
    yield Heading(2, f"Task {one_line(task.task)}")
    yield Paragraph(_measured(task, digits))
    missing = (*ended_early(data), *fresh_sentences(task))
    yield Points([*warnings(data), *missing, *_sentences(part)])
    yield Heading(3, "What was found")
    yield tables.found_table(task, digits)
    yield Paragraph(_target(task, digits))
    if any(arm.n for arm in task.arms):
        yield from _curves(part)
        yield Heading(3, "Gain of every run")
        yield tables.run_table(data, digits)
        yield from _differences(part)
        yield from _costs(part)
        yield Heading(3, "What was proposed")
        yield tables.habit_table(task)
    yield from gaps(data, task)


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


def _sentences(part: Part) -> Iterator[str]:
    task, digits = part.task, part.digits
    few = few_sentence(task)
    if few is not None:
        yield few
    for arm in task.arms:
        yield arm_sentence(arm, digits)
    for row in task.against_reference:
        yield comparison_sentence(row, digits)
    strongest = strongest_sentence(part.data, task)
    if strongest is not None:
        yield strongest
    for row in task.against_strongest:
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


def _curves(part: Part) -> Iterator[Block]:
    name = f"{part.prefix}running-best"
    caption = "Best value so far: every run (thin) and the mean of each arm (thick)."
    yield _figure(name, figures.running_best(part.data, name, part.pen), caption)
    name = f"{part.prefix}arms"
    reference = part.task.reference
    caption = f"The same, a panel an arm; grey is the mean of {one_line(reference)}."
    yield _figure(name, figures.panels(part.data, reference, name, part.pen), caption)


def _differences(part: Part) -> Iterator[Block]:
    """A figure and a table for each comparison that has a row."""
    task = part.task
    reference = one_line(task.reference)
    strongest = f"the strongest control, {one_line(task.strongest or '')}"
    parts: tuple[tuple[str, str, tuple[Comparison, ...]], ...] = (
        ("reference", f"Paired differences from {reference}", task.against_reference),
        ("strongest", f"Paired differences from {strongest}", task.against_strongest),
        ("fresh", f"Paired differences from {reference}", task.fresh),
        ("search", f"Paired differences from {reference}", task.search),
        ("values", f"Paired differences from {reference}", task.by_value),
    )
    caption = (
        "Mean difference, positive is better, with its 95 % interval: bootstrap (thick) and "
        "Student's t (thin)."
    )
    for kind, title, rows in parts:
        if rows:
            name = f"{part.prefix}{kind}"
            yield Heading(3, f"{title}: {FIGURES[rows[0].figure]}")
            yield _figure(name, figures.forest(part.data, rows, name, part.pen), caption)
            yield tables.difference_table(rows, part.digits)


def _costs(part: Part) -> Iterator[Block]:
    yield Heading(3, "What it cost")
    yield tables.cost_table(part.task)
    yield Paragraph(
        "Evaluations in all: of proposals, of the defaults, and on fresh seeds. Shared: taken over "
        "from another run, and counted as if each run had paid for it."
    )
    for currency in CURRENCIES:
        runs = [run for arm in part.data.arms for run in part.data.done(arm)]
        if any(spent(run, currency) for run in runs):
            name = f"{part.prefix}{currency}"
            yield Heading(3, f"At equal cost in {WORDS[currency]}")
            caption = _over_cost(part.data, currency)
            yield _figure(name, figures.by_cost(part.data, currency, name, part.pen), caption)
            yield from _equal(part, currency)


def _over_cost(data: StudyData, currency: Currency) -> str:
    """What the figure shows, and of how many runs."""
    told = [
        f"{one_line(arm)} {n} of {len(done)}"
        for arm in data.arms
        if (done := data.done(arm)) and (n := sum(bool(spent(r, currency)) for r in done))
    ]
    return (
        f"Mean gain over {WORDS[currency]} spent, all levels together. A run keeps its best beyond "
        "what it spent, so that an arm's line holds the last values of its cheaper runs where only "
        "dearer ones go on. Runs that spent none, or do not tell, are left out; drawn: "
        f"{', '.join(told)}."
    )


def _equal(part: Part, currency: Currency) -> Iterator[Block]:
    """Arms at equal cost against the reference and the controls, or why they are not compared."""
    task = part.task
    rows, controls = task.at_cost[currency], task.at_cost_controls[currency]
    if not rows:
        reference = one_line(task.reference)
        yield Paragraph(f"No run that spent any is paired with one of {reference} that did.")
    if rows or controls:
        yield Paragraph(
            "Both runs of a pair are stopped when they have spent what the cheaper one had by the "
            "score of its last proposal; what each had found by then is compared, by the gain of "
            "the search. What it spent after that, on fresh seeds or on proposals that were "
            "refused, is in the table of costs only. P(better) is left out: it crosses repeats, "
            "which are stopped at different costs."
        )
    if rows:
        yield tables.difference_table(rows, part.digits)
    if controls:
        yield Paragraph("The same against each control:")
        yield tables.difference_table(controls, part.digits)


def _figure(name: str, drawing: Drawing, caption: str) -> Figure:
    return Figure(name, drawing.svg, caption, drawing.png)


def _acted(found: Sequence[StudyMechanism]) -> str:
    """How many took part, and how many of these did anything."""
    joined = [m for m in found if m.joined is not None]
    acted = sum(m.changed > 0 for m in joined)
    return f"{len(joined)} of {len(found)} were on a stack, and {acted} changed a decision."


def _mechanisms(data: StudyData) -> Iterator[Block]:
    found = [(run, m) for run in data.runs if run.status == "done" for m in run.mechanisms]
    if not found:
        return
    yield Heading(2, "Mechanisms")
    if written := [m for _, m in found if m.generated]:
        yield Paragraph(f"Written by Level 2 in the run that has it: {_acted(written)}")
    if given := [m for _, m in found if not m.generated]:
        yield Paragraph(
            f"Given to a run when it began, by hand or from the library: {_acted(given)}"
        )
    yield Paragraph(
        "Counted once a run, in runs that are done. Influence: share of the decisions that it was "
        "asked for and changed. Credit: share of the run's decisions that differ when the run is "
        "decided again without it, mean over runs with its 95 % bootstrap interval; a dash where "
        "that was not worked out (--credit)."
    )
    yield tables.mechanism_table(found)
    for sha, mechanism in {m.sha: m for _, m in found if m.source}.items():
        yield Code(mechanism.source, f"{one_line(mechanism.name)}, {sha[: tables.SHA_DIGITS]}")
