"""The editor on generated scripts: only the wanted values change, and values are never code."""

import ast

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bilevel.errors import ConfigError
from bilevel.space import Value
from bilevel.tasks.constants import Source, edit, find

FAST = settings(max_examples=150, database=None)
INTS = st.integers(-(2**40), 2**40)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=12)
COMMENTS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff"), max_size=15
).filter(lambda t: "coding" not in t)


@st.composite
def literals(draw: st.DrawFn) -> str:
    """A literal or an integer expression, in one of the styles people write."""
    small, power = draw(st.integers(0, 99)), draw(st.integers(0, 20))
    return draw(
        st.sampled_from(
            [
                repr(draw(INTS)), f"{abs(draw(INTS)):_}", hex(small), repr(draw(FLOATS)),
                f"{draw(st.floats(1e-9, 1e9)):.3e}", f"2**{power}", f"{small} * 2 ** {power}",
                f"({small}*{small})", f"1 << {power}", f"-{small}", repr(draw(TEXTS)),
                ascii(draw(TEXTS)), "True", "False", f'"""{small}\n"""', f"'{small}' \"b\"",
                f"({small}, {small / 7!r}, 'x')", f"[{small},\n  -{small}]",
            ]
        )
    )  # fmt: skip


@st.composite
def scripts(draw: st.DrawFn) -> str:
    """A script of assignments between other code, with any line end and indentation."""
    lines: list[str] = draw(st.sampled_from([[], ['"""Döc."""'], ["import os", "x = 'Ü' * 2"]]))
    lines = list(lines)
    for index in range(draw(st.integers(1, 6))):
        value, comment = draw(literals()), draw(COMMENTS)
        one = f"P{index}"
        form = draw(st.integers(0, 6))
        lines += {
            0: [f"{one} = {value}"],
            1: [f"{one}={value}  # {comment}"],
            2: [f"{one}: object = {value} # {comment}"],
            3: ["if x:" if draw(st.booleans()) else "with x:", f"\t{one} = {value}"],
            4: [f"é, {one} = 'ñ', {value}"],
            5: [f"y = 'ß€😀'; {one} = {value}; z = 2"],
            6: [f"def f{index}():", f"    {one} = 3", "    return 1", f"{one} = ({value})"],
        }[form]
        if draw(st.booleans()):
            lines.append(f"# P{index} = 7")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join("\n".join(lines).split("\n")) + draw(st.sampled_from(["", end]))
    return draw(st.sampled_from(["", "\ufeff"])) + text


def other(draw: st.DataObject, value: Value) -> Value:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return draw.draw(st.one_of(INTS, st.integers(0, 30).map(lambda n: 2**n)))
        case float():
            return draw.draw(FLOATS)
        case str():
            return draw.draw(TEXTS)


@FAST
@given(scripts(), st.data())
def test_found_edited_and_found_again(source: str, data: st.DataObject) -> None:
    before = {c.name: c.value for c in find(source)}
    chosen = data.draw(st.sets(st.sampled_from(sorted(before))))
    wanted = {name: other(data, before[name]) for name in chosen}
    after = {c.name: c.value for c in find(edit(source, wanted))}
    assert after == {**before, **wanted}
    assert [type(v) for v in after.values()] == [type(v) for v in before.values()]


@FAST
@given(scripts())
def test_the_same_values_give_the_same_text(source: str) -> None:
    assert edit(source, {c.name: c.value for c in find(source)}) == source


@FAST
@given(scripts(), st.data())
def test_editing_twice_is_editing_once(source: str, data: st.DataObject) -> None:
    constants = find(source)
    assume(constants)
    chosen = data.draw(st.sampled_from(constants))
    wanted = {chosen.name: other(data, chosen.value)}
    once = edit(source, wanted)
    assert edit(once, wanted) == once


@FAST
@given(scripts(), st.data())
def test_nothing_outside_the_value_changes(source: str, data: st.DataObject) -> None:
    constants = find(source)
    assume(constants)
    chosen = data.draw(st.sampled_from(constants))
    edited = edit(source, {chosen.name: other(data, chosen.value)})
    new = next(c for c in find(edited) if c.name == chosen.name)
    cuts = [i for i in range(len(source)) if source.startswith(chosen.text, i)]
    assert any(source[:i] + new.text + source[i + len(chosen.text) :] == edited for i in cuts)


@FAST
@given(
    st.one_of(
        TEXTS,
        st.sampled_from(
            [
                '"; import os; os.abort() #', "'\nimport os\n'", '"""', "\\", "\\'", '\\"',
                "{__import__('os')}", "\r\nLR = 1", "\u2028X = 1", "\0", "'''\n", "\\N{BULLET}",
                "\ud800", "#", "%s", "\\\n",
            ]
        ),
    ),
    st.sampled_from(["'x'", '"x"', '"""x"""', "r'x'", "('x')", "'x' 'y'", "u'x'"]),
)  # fmt: skip
def test_a_text_never_becomes_code(payload: str, written: str) -> None:
    source = f"import sys\nNAME = {written}  # name\nLR = 0.1\n"
    edited = edit(source, {"NAME": payload})
    tree = ast.parse(edited)
    assert len(tree.body) == 3
    assignment = tree.body[1]
    assert isinstance(assignment, ast.Assign)
    assert isinstance(assignment.value, ast.Constant)
    assert assignment.value.value == payload
    assert edited.isascii()
    assert edited.endswith("  # name\nLR = 0.1\n")
    assert edited.count("\n") == 3


@FAST
@given(st.binary(max_size=200))
def test_any_bytes_are_found_or_refused(raw: bytes) -> None:
    text = raw.decode("latin-1")
    try:
        source = Source(text)
    except ConfigError:
        return
    assert source.edit({c.name: c.value for c in source.constants}) == text
