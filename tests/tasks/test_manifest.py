"""task.toml: what it takes, and the words for what it does not."""

from pathlib import Path

import pytest

from bilevel.errors import ConfigError
from bilevel.tasks.constants import Source
from bilevel.tasks.manifest import load, parse
from bilevel.tasks.params import Parameters, of_function, of_script

TASK = '[task]\nmetric = "loss"\n'
SCRIPT = Source(
    "LR = 0.1  # rate\nN = 8\nON = True\nMODE = 'a'\nBETAS = (0.8, 0.95)\nSEED = 1\nX = 1\nX = 2\n",
    "train.py",
)


def test_a_whole_file() -> None:
    manifest = parse("""
        [task]
        name = "t"
        kind = "script"
        goal = "g"
        metric = "acc"
        direction = "max"
        unit = "%"
        [script]
        file = "sub/x.py"
        command = ["{python}", "x.py"]
        seed = "SEED"
        timeout = 5
        env = { TOKENIZERS_PARALLELISM = "0", EVAL_TOKENS = "4" }
        link = ["data"]
        exclude = ["*.pt"]
        pattern = 'loss (\\S+)'
        max_output_mb = 0.5
        collect = ["run.log", "out/log.txt"]
        [noise]
        baselines = 3
        confirms = 0
        [params."A[0]"]
        low = 1
        high = 2.5
        log = true
        step = 2
        doc = "d"
        [params.B]
        choices = [1, 2.0, true, "x"]
        locked = true
    """)
    assert manifest.script is not None
    assert manifest.script.timeout == 5
    assert manifest.script.collect == ("run.log", "out/log.txt")
    assert manifest.noise.baselines == 3
    assert manifest.params["A[0]"].high == 2.5
    assert [type(c) for c in manifest.params["B"].choices] == [int, float, bool, str]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x =", "is not valid TOML"),
        ("", "task is missing; add it"),
        ("[taks]\n", "there is no key taks; did you mean task?"),
        (TASK + "drection = 'min'", "no key task.drection; did you mean direction?"),
        (TASK + "[script]\ntimout = 3", "no key script.timout; did you mean timeout?"),
        (TASK + "[params.A]\nlo = 3", "no key params.A.lo; did you mean low?"),
        (TASK + "[noise]\nzzz = 3", "known are baselines, confirms"),
        (TASK + "direction = 'mn'", "task.direction is 'mn' but should be 'min' or 'max'"),
        (TASK + "[script]\ntimeout = '5'", "script.timeout is '5' but should be a valid number"),
        (TASK + "[script]\ntimeout = 0", "should be greater than 0"),
        (TASK + "[script]\ntimeout = inf", "should be a finite number"),
        (TASK + "[script]\ntimeout = 2026-01-01", "should be a valid number"),
        (TASK + "[noise]\nbaselines = 1", "noise.baselines is 1 but should be greater than or eq"),
        (TASK + "[params.A]\nlog = 1", "params.A.log is 1 but should be a valid boolean"),
        (TASK + "[params.A]\nlow = nan", "params.A.low is nan but should be a finite number"),
        (TASK + "[script]\nlink = ['../x']", "'../x' must be a path within the task's folder"),
        (TASK + "[script]\nfile = '/x.py'", "'/x.py' must be a path within the task's folder"),
        (TASK + "[script.env]\nHF_TOKEN = 'x'", "HF_TOKEN looks like a secret"),
        (TASK + "[script.env]\nmyApiKey_SECRET = 'x'", "looks like a secret"),
        (TASK + "[function]\ntarget = 'm:f'", "[function] is there but the task's kind is script"),
        (TASK + "kind = 'function'", "add [function]"),
        (TASK + "kind = 'function'\n[script]", "[script] is there but the task's kind is funct"),
        ("[task]\nmetric = 'val loss'", "'val loss' must be a letter, then"),
    ],
)
def test_a_broken_rule_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, "here/task.toml")
    assert str(error.value).startswith("here/task.toml")
    assert message in str(error.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; write it with `bilevel init`"):
        load(tmp_path / "task.toml")
    (tmp_path / "task.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "task.toml")


def script(params: str) -> Parameters:
    return of_script(parse(TASK + params).params, SCRIPT, "task.toml", "SEED")


def test_a_default_on_a_grid_is_the_number_of_the_grid() -> None:
    grid = "[params.DROP]\nlow = 0\nhigh = 0.5\nstep = 0.1"
    source = Source("DROP = 0.30000000000000004\n", "train.py")
    found = of_script(parse(TASK + grid).params, source, "task.toml", "")
    assert found.space.defaults() == {"DROP": 0.3}


def test_kinds_and_defaults_come_from_the_script() -> None:
    found = script("""
        [params.LR]
        low = 0.01
        high = 1
        log = true
        [params.N]
        low = 1
        high = 64
        log = true
        step = 2
        doc = "size"
        [params.ON]
        [params.MODE]
        choices = ["a", "b"]
        [params."BETAS[0]"]
        choices = [0.8, 1]
        [params."BETAS[1]"]
        locked = true
    """)
    kinds = {p.name: (p.kind, p.default) for p in found.space}
    assert kinds == {
        "LR": ("float", 0.1), "N": ("int", 8), "ON": ("choice", True), "MODE": ("choice", "a"),
        "BETAS[0]": ("choice", 0.8),
    }  # fmt: skip
    assert found.locked == {"BETAS[1]": 0.95}
    assert (found.space["LR"].doc, found.space["N"].doc) == ("rate", "size")
    assert found.space["ON"].choices == (False, True)
    assert found.space["BETAS[0]"].choices == (0.8, 1.0)


def test_a_whole_number_may_be_searched_as_a_real_one() -> None:
    found = script('[params.N]\nkind = "float"\nlow = 0.5\nhigh = 9\n')
    assert found.space.check({"N": 7.5}) == {"N": 7.5}
    assert type(found.space["N"].default) is float


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("", "opens no parameter"),
        ("[params.LR]\nlocked = true", "opens no parameter"),
        ("[params.LRR]\nlow = 1\nhigh = 2", "no upper-case constant 'LRR'"),
        ("[params.LRR]", "did you mean LR?"),
        ("[params.X]", "X in train.py is set more than once (lines 7, 8)"),
        ("[params.BETAS]", "is a tuple; name its elements: BETAS[0], BETAS[1]"),
        ("[params.SEED]\nlow = 1\nhigh = 2", "SEED takes the run's seed"),
        ("[params.LR]\ndefault = 1", "params.LR.default: train.py gives it"),
        ("[params.LR]\nlow = 1", "params.LR has no high"),
        ("[params.LR]\nhigh = 1", "params.LR has no low"),
        ("[params.LR]\nlow = 2\nhigh = 1", "low is 2 but must be under high, 1"),
        ("[params.LR]\nlow = 1\nhigh = 1", "must be under high"),
        ("[params.LR]\nlow = 0\nhigh = 1\nlog = true", "low is 0 but must be over 0"),
        ("[params.LR]\nlow = 0.2\nhigh = 1", "must include the default, but LR is 0.1 but its"),
        ("[params.N]\nlow = 3\nhigh = 30\nlog = true\nstep = 2", "the nearest is"),
        ("[params.N]\nlow = 1\nhigh = 30\nlog = true\nstep = 1", "step is 1 but must be over 1"),
        ("[params.N]\nlow = 1\nhigh = 30\nstep = 40", "wider than the range"),
        ("[params.N]\nlow = 1\nhigh = 9\nstep = 0", "greater than 0"),
        ("[params.N]\nkind = 'text'", "kind is text but the default is 8"),
        ("[params.N]\nlow = 1\nhigh = 9\nkind = 'int'\nchoices = [8]", "choices go with kind"),
        ("[params.MODE]", "params.MODE has 0 choices"),
        ("[params.MODE]\nchoices = ['a']", "params.MODE has 1 choices"),
        ("[params.MODE]\nchoices = ['b', 'c']", "must include the default"),
        ("[params.MODE]\nchoices = ['a', 1]", "choices has 1 but the default is 'a'"),
        ("[params.MODE]\nchoices = ['a', 'a']", "named twice"),
        ("[params.MODE]\nkind = 'text'\nchoices = ['a', 'b']", "choices go with kind"),
        ("[params.MODE]\nlow = 1\nchoices = ['a', 'b']", "low is for numbers"),
        ("[params.ON]\nlog = true", "log is for numbers"),
        ("[params.N]\nchoices = [8, true]", "choices has True"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(params: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        script(params)
    assert str(error.value).startswith("task.toml: ")
    assert message in str(error.value)


def test_a_functions_parameters_are_described_whole() -> None:
    manifest = parse(
        TASK
        + """
        [params.x]
        default = 0.5
        low = 0
        high = 1
        [params.n]
        default = 2
        low = 1
        high = 4
        [params.on]
        default = true
        [params.code]
        kind = "text"
        default = "pass"
        [params.fixed]
        default = 3
        locked = true
    """
    )
    found = of_function(manifest.params, "task.toml")
    assert [p.kind for p in found.space] == ["float", "int", "choice", "text"]
    assert found.locked == {"fixed": 3}
    with pytest.raises(ConfigError, match=r"params\.x has no default"):
        of_function(parse(TASK + "[params.x]\nlow = 1").params, "task.toml")
