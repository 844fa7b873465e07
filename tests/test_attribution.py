"""Which layer made which decision, from the log alone."""

from dataclasses import replace

from bilevel.attribution import influence, leave_one_out, redecide
from bilevel.mechanism import Mechanism
from bilevel.model import MechanismSource
from bilevel.stack import Layer
from worlds import RUN, Log, build


class Inert(Mechanism):
    pass


class Notes(Mechanism):
    def plan(self, view, moves):
        return [replace(m, note=f"step {view.step}") for m in moves]


class KeepsEverySecond(Mechanism):
    def accept(self, view, trial, keep):
        return keep or (trial.score is not None and trial.id % 2 == 0)


class DropsWide(Mechanism):
    def screen(self, view, drafts):
        return [
            d.edit({**d.values, "BATCH": 1024}, "not so wide") if d.values["BATCH"] > 9000 else d
            for d in drafts
        ]


def layers() -> list[Layer]:
    kinds = (Inert, Notes, KeepsEverySecond, DropsWide)
    return [Layer(k.__name__, k.__name__, k()) for k in kinds]


def recorded() -> Log:
    log = Log()
    build(log, evals=12, layers=layers()).go()
    return log


def test_an_inert_layer_changes_nothing_and_the_others_show_where() -> None:
    found = {(i.layer, i.hook): i for i in influence(recorded())}
    assert all(found["Inert", hook].changed == 0 for hook in ("plan", "screen", "accept"))
    assert found["Inert", "accept"].asked == 12
    assert found["Notes", "plan"].changed == found["Notes", "plan"].asked
    assert found["Notes", "accept"].changed == 0
    assert found["KeepsEverySecond", "accept"].changed > 0
    assert found["DropsWide", "screen"].changed > 0


def test_the_whole_stack_decides_as_recorded() -> None:
    log = recorded()
    assert all(redecide(replace(RUN, evals=12), log, layers()))


def test_without_a_layer_its_own_decisions_differ_and_no_others() -> None:
    log = recorded()
    found = influence(log)
    credit = {c.layer: c for c in leave_one_out(replace(RUN, evals=12), log, layers)}
    for name in ("Inert", "Notes", "KeepsEverySecond", "DropsWide"):
        assert credit[name].different == sum(i.changed for i in found if i.layer == name)
    assert credit["Inert"].different == 0


def joined() -> Log:
    """A run that Notes joins after four steps and leaves after eight, a step or two each trial."""
    log = Log()
    loop = build(log, evals=12)
    loop.stack._load = load
    for step in range(12):
        if step == 4:
            loop.stack.add(MechanismSource("Notes", "Notes", ""), step, "a session")
        if step == 8:
            loop.stack.remove("Notes", step, "no influence")
        if not step:
            loop._baseline()
        loop.step()
    return log


def load(source: MechanismSource) -> Layer:
    assert source.name == "Notes"
    return Layer("Notes", "Notes", Notes())


def test_a_layer_that_joined_and_left_has_its_credit_for_the_time_between() -> None:
    log = joined()
    run = replace(RUN, evals=12)
    assert all(redecide(run, log, [], load))
    (credit,) = leave_one_out(run, log, lambda: [], load)
    assert (credit.layer, credit.different) == ("Notes", 4)
