"""What a layer may answer, and what becomes of an answer that breaks a rule."""

from dataclasses import replace

import pytest

from bilevel.codec import dump
from bilevel.mechanism import Mechanism, View
from bilevel.model import Decision, Draft, Fault, Layering, MechanismSource, Move, Record, Trial
from bilevel.sandbox.errors import MechanismRaised, MechanismTimeout, SandboxRefused
from bilevel.stack import EMPTY_ALLOWED, FAULTS_ALLOWED, Layer, Stack
from worlds import SPACE

BASE = Trial(0, None, SPACE.defaults(), "ok", -1.0, {}, 1.0, 0, True)
VIEW = View(SPACE, (BASE,), BASE, BASE, 4, frozen=("RATE",))
MOVES = [Move(parents=(0,))]
DRAFTS = [Draft(i, 4, MOVES[0], SPACE.defaults() | {"BATCH": 2**b}) for i, b in enumerate((9, 10))]


def answers(**fixed: object) -> Mechanism:
    """A mechanism whose hooks give fixed answers; without attributes, which must be JSON."""

    def hook(name: str):
        return lambda self, *given: fixed[name]

    return type("Answers", (Mechanism,), {name: hook(name) for name in fixed})()


def stack(*mechanisms: Mechanism) -> tuple[Stack, list[Record]]:
    log: list[Record] = []
    layers = [Layer(str(i), f"layer {i}", m) for i, m in enumerate(mechanisms)]
    return Stack(layers, 7, log.append), log


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "a list of Move"),
        ([1], "a list of Move"),
        ([Move(parents=(8,))], "ids of trials"),
        ([Move(focus=("RATE",))], "RATE is frozen"),
        ([Move(values=SPACE.defaults() | {"BATCH": 7})], "its range is"),
        ([Move(values=SPACE.defaults() | {"RATE": 0.5})], "RATE is frozen at 0.1"),
    ],
)
def test_a_plan_that_breaks_a_rule_falls_back_on_record(answer: object, words: str) -> None:
    layers, log = stack(answers(plan=answer))
    assert layers.plan(VIEW, MOVES) == MOVES
    (fault,) = log
    assert isinstance(fault, Fault)
    assert words in fault.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("x", "a list of Draft"),
        ([replace(DRAFTS[0], id=9)], "may not invent"),
        ([DRAFTS[0], DRAFTS[0]], "may not invent or repeat"),
        ([DRAFTS[0].edit(SPACE.defaults() | {"RATE": 0.9}, "bolder")], "RATE is frozen"),
    ],
)
def test_a_screening_that_breaks_a_rule_falls_back_on_record(answer: object, words: str) -> None:
    layers, log = stack(answers(screen=answer))
    assert layers.screen(VIEW, DRAFTS) == DRAFTS
    assert isinstance(log[0], Fault)
    assert words in log[0].message


def test_screening_may_drop_reorder_and_edit() -> None:
    edited = DRAFTS[1].edit(SPACE.defaults() | {"BATCH": 2048}, "halfway")
    layers, log = stack(answers(screen=[edited, DRAFTS[0]]))
    assert layers.screen(VIEW, DRAFTS) == [edited, DRAFTS[0]]
    assert edited.edits[0].before == DRAFTS[1].values
    assert isinstance(log[0], Decision)


def test_a_focus_on_all_that_is_open_is_no_change_of_a_decision() -> None:
    whole = tuple(n for n in SPACE.names if n != "RATE")
    layers, log = stack(answers(plan=[replace(m, focus=whole) for m in MOVES]))
    assert layers.plan(VIEW, MOVES) == MOVES
    layers.plan(replace(VIEW, frozen=()), MOVES)
    assert [r.before == r.after for r in log if isinstance(r, Decision)] == [True, False]


def test_a_failed_trial_is_never_kept_whatever_a_layer_says() -> None:
    layers, _ = stack(answers(accept=True))
    failed = replace(BASE, id=3, status="crash", score=None)
    assert layers.accept(VIEW, failed, False) is False


def test_each_layer_gets_the_answer_of_the_one_below() -> None:
    class Tags(Mechanism):
        def plan(self, view, moves):
            return [replace(m, tag=m.tag + "x") for m in moves]

    layers, log = stack(Tags(), Tags())
    assert layers.plan(VIEW, MOVES)[0].tag == "xx"
    assert [r.before for r in log[1:]] == [r.after for r in log[:1]]


def test_a_decision_has_one_generator_of_its_own() -> None:
    class Draws(Mechanism):
        def plan(self, view, moves):
            return [Move(parents=(0,), note=str([view.rng.random() for _ in range(2)]))]

    first, second = stack(Draws(), Draws())[0], stack(Draws(), Draws())[0]
    note = first.plan(VIEW, MOVES)[0].note
    assert note == second.plan(VIEW, MOVES)[0].note
    assert note != first.plan(replace(VIEW, step=5), MOVES)[0].note
    one, two = note.strip("[]").split(", ")
    assert one != two


def test_a_state_that_json_cannot_hold_is_a_fault_and_the_old_one_stays() -> None:
    class Hoards(Mechanism):
        def __init__(self):
            self.seen = 0

        def plan(self, view, moves):
            self.seen += 1
            if self.seen == 2:
                self.bad = {1, 2}
            return moves

    hoards = Hoards()
    layers, log = stack(hoards)
    for _ in range(2):
        layers.plan(VIEW, MOVES)
    assert [type(r) for r in log] == [Decision, Fault]
    assert vars(hoards) == {"seen": 1}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("note", object(), "note is a object"),
        ("note", 1.5, "Move.note must be str"),
        ("note", "half of \ud83d", "half of a surrogate pair"),
        ("tag", float("nan"), "use finite numbers"),
        ("seed", True, "Move.seed must be int"),
        ("seed", 2**70, "over 64 bits"),
        ("parents", [0], "use tuples"),
        ("focus", ["BATCH"], "use tuples"),
        ("values", {**SPACE.defaults(), "RATE": float("inf")}, "must be finite"),
        ("values", {**SPACE.defaults(), "PATTERN": {"SL"}}, "must be one of"),
    ],
)
def test_a_move_that_the_log_cannot_keep_as_it_is_falls_back(
    field: str, value: object, words: str
) -> None:
    layers, log = stack(answers(plan=[replace(MOVES[0], **{field: value})]))
    assert layers.plan(VIEW, MOVES) == MOVES
    (fault,) = log
    assert isinstance(fault, Fault)
    assert words in fault.message
    dump(fault)


def test_numbers_of_numpy_are_logged_as_plain_ones() -> None:
    numpy = pytest.importorskip("numpy")
    values = {**SPACE.defaults(), "BATCH": numpy.float64(1024)}
    layers, log = stack(answers(plan=[replace(MOVES[0], values=values)]))
    layers.plan(VIEW, MOVES)
    assert [type(r) for r in log] == [Decision]
    assert '"BATCH": 1024.0' in log[0].after  # type: ignore[union-attr]


def test_what_an_error_says_is_made_fit_for_the_log() -> None:
    class Raises(Mechanism):
        def plan(self, view, moves):
            raise ValueError(f"half of \ud83d, and <object at {hex(id(self))}>")

    layers, log = stack(Raises())
    layers.plan(VIEW, MOVES)
    (fault,) = log
    assert isinstance(fault, Fault)
    assert fault.message == "half of ?, and <object at 0x...>"


def test_to_leave_nothing_is_allowed_ten_times_running_and_not_eleven() -> None:
    layers, log = stack(answers(plan=[]))
    for _ in range(EMPTY_ALLOWED):
        assert layers.plan(VIEW, MOVES) == []
    assert layers.plan(VIEW, MOVES) == MOVES
    assert [type(r) for r in log] == [Decision] * EMPTY_ALLOWED + [Fault]
    assert "left nothing to evaluate 10 steps running" in log[-1].message  # type: ignore[union-attr]


def test_what_was_empty_before_does_not_count_nor_does_an_empty_screen_for_a_plan() -> None:
    layers, log = stack(answers(plan=[], screen=[]))
    for _ in range(EMPTY_ALLOWED + 5):
        assert layers.plan(VIEW, []) == []
    for _ in range(EMPTY_ALLOWED):
        layers.plan(VIEW, MOVES)
        layers.screen(VIEW, DRAFTS)
    assert not [r for r in log if isinstance(r, Fault)]


def test_one_step_with_something_ends_the_count() -> None:
    class Mostly(Mechanism):
        def plan(self, view, moves):
            return moves if view.step % 10 == 0 else []

    layers, log = stack(Mostly())
    for step in range(40):
        layers.plan(replace(VIEW, step=step), MOVES)
    assert not [r for r in log if isinstance(r, Fault)]


class Counts(Mechanism):
    def __init__(self):
        self.seen = 0

    def plan(self, view, moves):
        self.seen += 1
        return [m.edit(note=f"call {self.seen}") for m in moves]


class Empties(Mechanism):
    def plan(self, view, moves):
        return []


class Breaks(Mechanism):
    def plan(self, view, moves):
        raise ZeroDivisionError("never works")


KINDS: dict[str, type[Mechanism]] = {"counts": Counts, "empties": Empties, "breaks": Breaks}


def of(name: str) -> MechanismSource:
    return MechanismSource(name, name, f"class {name}: ...")


def load(source: MechanismSource) -> Layer:
    return Layer(source.sha, source.name, KINDS[source.name]())


def joining(records: list[Record]) -> Stack:
    """A stack that goes on from these records, which sources can join."""
    return Stack([], 7, records.append, list(records), load, list(records))


def test_a_source_joins_on_top_and_leaves_on_record() -> None:
    log: list[Record] = []
    made = joining(log)
    assert not made.holds("counts")
    assert made.add(of("empties"), 2, "a session")
    assert made.add(of("counts"), 3, "another session")
    assert made.holds("counts")
    assert [layer.sha for layer in made.layers] == ["empties", "counts"]
    made.remove("empties", 4, "no influence")
    assert not made.holds("empties")
    assert made.plan(VIEW, MOVES)[0].note == "call 1"
    assert log[:5] == [
        of("empties"),
        Layering(2, "empties", "add", "a session"),
        of("counts"),
        Layering(3, "counts", "add", "another session"),
        Layering(4, "empties", "remove", "no influence"),
    ]
    assert [r.layer for r in log[5:]] == ["counts"]  # type: ignore[union-attr]


def test_a_resumed_stack_holds_what_joined_in_its_state_and_what_left_no_more() -> None:
    log: list[Record] = []
    made = joining(log)
    made.add(of("empties"), 2, "a session")
    made.add(of("counts"), 3, "another session")
    made.plan(VIEW, MOVES)
    made.plan(VIEW, MOVES)
    made.remove("empties", 5, "no influence")
    resumed = joining(log)
    assert [layer.sha for layer in resumed.layers] == ["counts"]
    assert vars(resumed.layers[0].mechanism) == {"seen": 2}
    assert resumed.plan(VIEW, MOVES)[0].note == "call 3"


@pytest.mark.parametrize("resumes", [False, True])
def test_one_that_joins_again_starts_with_nothing_against_it(resumes: bool) -> None:
    log: list[Record] = []
    made = joining(log)
    for name in ("counts", "empties"):
        made.add(of(name), 2, "a session")
    for _ in range(EMPTY_ALLOWED - FAULTS_ALLOWED + 1):
        made.plan(VIEW, MOVES)
    made.add(of("breaks"), 3, "another session")
    for _ in range(FAULTS_ALLOWED - 1):
        made.plan(VIEW, MOVES)
    for name in ("counts", "breaks", "empties"):
        made.remove(name, 3, "it was asked for")
        made.add(of(name), 4, "a later session")
    made = joining(log) if resumes else made
    assert vars(made.layers[0].mechanism) == {"seen": 0}
    made.plan(VIEW, MOVES)
    assert made.holds("breaks"), "its first fault since"
    for _ in range(EMPTY_ALLOWED - 1):
        assert made.plan(VIEW, MOVES) == []
    assert made.plan(VIEW, MOVES) != []


@pytest.mark.parametrize("resumes", [False, True])
def test_the_third_fault_takes_a_layer_out_with_the_reason(resumes: bool) -> None:
    log: list[Record] = []
    made = joining(log)
    made.add(of("breaks"), 2, "a session")
    for _ in range(FAULTS_ALLOWED - 1):
        made.plan(VIEW, MOVES)
    made = joining(log) if resumes else made
    assert made.holds("breaks")
    made.plan(VIEW, MOVES)
    assert not made.holds("breaks")
    why = "3 faults, the last in plan: never works"
    assert log[-1] == Layering(4, "breaks", "remove", why)


def test_a_layer_that_leaves_is_closed_and_one_that_stays_is_not() -> None:
    closed: list[str] = []

    def closing(source: MechanismSource) -> Layer:
        layer = load(source)
        return Layer(layer.sha, layer.name, layer.mechanism, lambda: closed.append(layer.sha))

    log: list[Record] = []
    made = Stack([], 7, log.append, load=closing)
    for name in ("counts", "empties", "breaks"):
        made.add(of(name), 2, "a session")
    made.remove("empties", 3, "no influence")
    assert closed == ["empties"]
    for _ in range(FAULTS_ALLOWED):
        made.plan(VIEW, MOVES)
    assert closed == ["empties", "breaks"]
    closed.clear()
    Stack([], 7, log.append, log, closing)
    assert closed == ["empties", "breaks"], "loaded to go on, and gone since"


def test_a_source_that_does_not_load_is_a_fault_on_record_and_stays_one() -> None:
    def refuses(source: MechanismSource) -> Layer:
        raise MechanismRaised("ModuleNotFoundError: No module named 'sklearn'")

    log: list[Record] = []
    made = Stack([], 7, log.append, load=refuses)
    assert not made.add(of("counts"), 2, "a session")
    assert not made.holds("counts")
    fault = Fault(
        2, "counts", "add", "MechanismRaised", "ModuleNotFoundError: No module named 'sklearn'"
    )
    assert log == [of("counts"), fault]
    again: list[Record] = []
    assert not Stack([], 7, again.append, load=load, recorded=log).add(of("counts"), 2, "a session")
    assert again == log
    assert Stack([], 7, again.append, log, load).layers == []


def test_where_no_code_may_run_nothing_joins_and_nothing_is_hidden() -> None:
    def refuses(source: MechanismSource) -> Layer:
        raise SandboxRefused("this machine does not lock a worker")

    log: list[Record] = []
    with pytest.raises(SandboxRefused, match="does not lock"):
        Stack([], 7, log.append, load=refuses).add(of("counts"), 2, "a session")
    assert not [r for r in log if isinstance(r, Layering)]


class Slow(Mechanism):
    """Misses its time at the second trial of a step, as often as told."""

    times = 1

    def accept(self, view, trial, keep):
        if trial.id == 2 and Slow.times:
            Slow.times -= 1
            raise MechanismTimeout("accept gave no answer in 10 s")
        return True


def test_a_fault_of_the_clock_comes_again_for_the_same_call_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials = [replace(BASE, id=i, kept=False) for i in (1, 2, 3)]

    def accepted(log: list[Record], start: int = 0, **named: object) -> list[bool]:
        layers = Stack([Layer("s", "slow", Slow())], 7, log.append, **named)  # type: ignore[arg-type]
        return [layers.accept(VIEW, t, False) for t in trials[start:]]

    monkeypatch.setattr(Slow, "times", 1)
    log: list[Record] = []
    assert accepted(log) == [True, False, True]
    again: list[Record] = []
    assert accepted(again, recorded=log) == [True, False, True]
    assert [type(r) for r in again] == [type(r) for r in log] == [Decision, Fault, Decision]
    assert accepted([], 1, records=log[:1], recorded=log) == [False, True]
    assert accepted([]) == [True, True, True], "without the record it would be in time"


def test_a_fault_of_the_code_is_found_again_and_not_taken_from_the_record() -> None:
    log: list[Record] = []
    joining(log).add(of("counts"), 2, "a session")
    log.append(Fault(4, "counts", "plan", "ValueError", "was mended since"))
    made = Stack([Layer("counts", "counts", Counts())], 7, log.append, recorded=log)
    assert made.plan(VIEW, MOVES)[0].note == "call 1"
