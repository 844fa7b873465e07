"""Constants are found with their types, and edited without touching anything else."""

import time

import pytest
from lookalike import AUTORESEARCH

from bilevel.errors import ConfigError, InvalidCandidate
from bilevel.space import Value
from bilevel.tasks.constants import Source, edit, find


def values(source: str) -> dict[str, Value]:
    return {c.name: c.value for c in find(source)}


def test_the_constants_of_an_autoresearch_script() -> None:
    found = {c.name: c for c in find(AUTORESEARCH)}
    assert {name: c.value for name, c in found.items()} == {
        "ASPECT_RATIO": 64, "HEAD_DIM": 128, "WINDOW_PATTERN": "SSSL", "TOTAL_BATCH_SIZE": 2**19,
        "EMBEDDING_LR": 0.6, "MATRIX_LR": 0.04, "WEIGHT_DECAY": 0.2, "ADAM_BETAS[0]": 0.8,
        "ADAM_BETAS[1]": 0.95, "WARMUP_RATIO": 0.0, "FINAL_LR_FRAC": 0.0, "DEPTH": 8,
        "DEVICE_BATCH_SIZE": 128, "SEED": 42,
    }  # fmt: skip
    assert found["TOTAL_BATCH_SIZE"].doc == "~524K tokens per optimizer step"
    assert found["TOTAL_BATCH_SIZE"].text == "2**19"
    assert found["ADAM_BETAS[1]"].doc == "Adam beta1, beta2"
    assert found["ADAM_BETAS[1]"].line == 20
    assert [found[n].kind for n in ("DEPTH", "MATRIX_LR", "WINDOW_PATTERN")] == [
        "int", "float", "str",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("A, B = 1, 2.5", {"A": 1, "B": 2.5}),
        ("(A, (B, C)) = 1, (2, 3)", {"A": 1, "B": 2, "C": 3}),
        ("A: int = 3", {"A": 3}),
        ("A: int\nA = 3", {"A": 3}),
        ("if True:\n  A = 1\nelse:\n  B = 2", {"A": 1, "B": 2}),
        ("try:\n  A = 1\nexcept E:\n  B = 2\nfinally:\n  C = 3", {"A": 1, "B": 2, "C": 3}),
        ("with x:\n\tA = -1", {"A": -1}),
        ("A = 1; B = True; C = 'x' 'y'", {"A": 1, "B": True, "C": "xy"}),
        ("T = (1, ('a', False), [2.0])", {"T[0]": 1, "T[1][0]": "a", "T[1][1]": False,
                                          "T[2][0]": 2.0}),
        ("A = 64 * 1024\nB = 3 * 2**17\nC = 1 << 4\nD = 1_000\nE = 0x10\nF = 7 // 2",
         {"A": 65536, "B": 393216, "C": 16, "D": 1000, "E": 16, "F": 3}),
        ("A = 1e-3\nB = -.5\nC = 1 / 4\nD = 10 ** -3", {"A": 0.001, "B": -0.5, "C": 0.25,
                                                        "D": 0.001}),
        ("def f():\n  A = 1\nclass C:\n  B = 2\nf = lambda: (D := 3)", {}),
        ("lower = 1\nMixed = 2\n_PRIVATE = 3", {}),
        ("A = None\nB = b'x'\nC = 1j\nD = f'{x}'\nE = ()", {}),
        ("[A for A in x]\nA = 1", {"A": 1}),
        ("def f():\n  A = 2\nA = 1", {"A": 1}),
        ("A = 1  \x0c\nB = 2", {"A": 1, "B": 2}),
        ("", {}),
    ],
)  # fmt: skip
def test_what_counts_as_a_constant(source: str, expected: dict[str, Value]) -> None:
    assert values(source) == expected
    assert [type(v) for v in values(source).values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("A = 1\nA = 2", "set more than once (lines 1, 2)"),
        ("A = 1\nA += 2", "set more than once"),
        ("if x:\n  A = 1\nelse:\n  A = 2", "set more than once"),
        ("A = 1\nfor A in x: pass", "set more than once"),
        ("A = 1\nimport x as A", "set more than once"),
        ("A = 1\nfrom x import A", "set more than once"),
        ("A = 1\ndef A(): pass", "set more than once"),
        ("A = 1\nclass A: pass", "set more than once"),
        ("A = 1\nwith x as A: pass", "set more than once"),
        ("A = 1\ndel A", "set more than once"),
        ("A = 1\nprint(A := 2)", "set more than once"),
        ("A = 1\n[(A := y) for y in x]", "set more than once"),
        ("A = 1\ndef f():\n  global A\n  A = 2", "set more than once"),
        ("A = 1\ntry: x\nexcept E as A: pass", "set more than once"),
        ("A = 1\nmatch x:\n  case [*A]: pass", "set more than once"),
        ("A = 1\nmatch x:\n  case {'k': 1, **A}: pass", "set more than once"),
        ("A = 1\nmatch x:\n  case int() as A: pass", "set more than once"),
        ("A = B = 1", "shares its value"),
        ("A, B = f()", "unpacked"),
        ("A, *B = 1, 2", "unpacked"),
        ("A = 4 * B", "computed"),
        ("A = 9**9**9", "256 bits"),
        ("A = 1 << 10**9", "256 bits"),
        ("A = 10**10**10 * 0", "256 bits"),
        ("A = 1 / 0", "cannot be computed"),
        ("A = (-8) ** 0.5", "not a real number"),
        ("A = 1e999", "not finite"),
        ("A = 'x' * 10**9", "something else than numbers"),
        ("A = " + "-" * 60 + "1", "nested too deeply"),
    ],
)
def test_what_is_refused_and_why(source: str, why: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidCandidate, match=r"^A in the script ") as error:
        edit(source, {"A": 3})
    assert why in str(error.value)
    assert time.process_time() - began < 1


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InvalidCandidate, match="did you mean DEPTH"):
        edit(AUTORESEARCH, {"DEPHT": 3})
    with pytest.raises(InvalidCandidate, match=r"is a tuple.*ADAM_BETAS\[0\], ADAM_BETAS\[1\]"):
        edit(AUTORESEARCH, {"ADAM_BETAS": 0.9})


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("2**19", 2**18, "2**18"),
        ("2 ** 19", 2**18, "2 ** 18"),
        ("2**19", 1, "2**0"),
        ("2**19", 3 * 2**17, "393216"),
        ("3*2**17", 3 * 2**16, "3*2**16"),
        ("3 * 2**17", 2**17, "1 * 2**17"),
        ("64 * 1024", 32 * 1024, "32 * 1024"),
        ("1 << 19", 2**18, "1 << 18"),
        ("524_288", 262_144, "262_144"),
        ("0x10", 255, "0xff"),
        ("0b100", 2, "0b10"),
        ("-5", -6, "-6"),
        ("-5", 6, "6"),
        ("-2**4", -8, "-2**3"),
        ("5", -6, "-6"),
        ("0.04", 0.05, "0.05"),
        ("0.04", 1, "1.0"),
        ("0.04", 0.00001, "1e-5"),
        ("1e-3", 3e-4, "3e-4"),
        ("1e-3", 0.00015, "1.5e-4"),
        ("1e-3", 0.5, "0.5"),
        ("1E-3", 0.0, "0.0"),
        ("-0.5", -0.25, "-0.25"),
        ("1", 0.5, "0.5"),
        ("1", 2.0, "2.0"),
        ("1 / 768", 0.5, "0.5"),
        ("True", False, "False"),
        ("'SSSL'", "SL", "'SL'"),
        ('"SSSL"', 'a"b', '"a\\"b"'),
        ("'a'", "it's", "'it\\'s'"),
        ('r"a"', "back\\slash\nline", '"back\\\\slash\\nline"'),
        ('"é"', "€", '"\\u20ac"'),
        ("(\n  5  # five\n)", 6, "(\n  6  # five\n)"),
        ("1", 1.0, "1"),
        ("0x1F", 31, "0x1F"),
        ("2**19", 2**19, "2**19"),
    ],
)
def test_an_edit_keeps_the_style(before: str, value: Value, after: str) -> None:
    source = f"é = 'ü'; A = {before}  # ☃\nB = 1\n"
    assert edit(source, {"A": value}) == f"é = 'ü'; A = {after}  # ☃\nB = 1\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_tabs_and_the_mark_stay(end: str, mark: str, last: bool) -> None:
    lines = ["# é \x0c \u2028 x", "if 1:", "\tA, B = 1, 2 # ü", '"""', "A = 7", '"""', "C = 'x'"]
    source = mark + end.join(lines) + (end if last else "")
    edited = edit(source, {"B": 5, "C": "y"})
    assert edited == source.replace("1, 2", "1, 5").replace("'x'", "'y'")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LR", "0.1"), ("LR", True), ("LR", float("nan")), ("LR", float("inf")), ("LR", 10**400),
        ("N", "1"), ("N", False), ("N", 2**300), ("ON", 1), ("ON", "True"), ("S", 1), ("S", True),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(name: str, value: Value) -> None:
    with pytest.raises(InvalidCandidate, match=f"^{name} "):
        edit("LR = 0.1\nN = 1\nON = True\nS = 'x'\n", {name: value})


@pytest.mark.parametrize(
    "source", ["A = (", "A = 1\n B = 2", "A = \0", "A = '\ud800'", "(" * 500, "A=" + "1+" * 30_000]
)
def test_what_is_no_python_is_a_config_error(source: str) -> None:
    with pytest.raises(ConfigError, match="the script"):
        find(source)


def test_bad_escapes_of_the_script_do_not_warn() -> None:
    assert values("X = '\\d'\nA = 1") == {"X": "\\d", "A": 1}


def test_comments_become_one_clean_line() -> None:
    found = find("A = 1  #: a \x1b[31m \u202e b\nB = (1, # one\n 2) # two\nC = 1; D = 2 # d\n")
    assert [c.doc for c in found] == ["a  [31m   b", "one", "two", "", "d"]


def test_a_thousand_lines_are_edited_quickly() -> None:
    source = AUTORESEARCH + "def f(x):\n    return [x + i for i in range(10)]\n" * 600
    loaded = Source(source)
    began = time.process_time()
    loaded.edit({"DEPTH": 9})
    assert time.process_time() - began < 2
