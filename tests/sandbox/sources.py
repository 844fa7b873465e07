"""Mechanisms as text: good ones, and small hostile or broken ones with how they must end."""

from __future__ import annotations

from bilevel.sandbox.errors import MechanismRaised, MechanismTimeout, WorkerDied, WrongFrame

HEAD = """
from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move, Trial
"""

# Uses all hooks, state, randomness, the history and the order of a set of texts.
BUSY = f"""{HEAD}
class Busy(Mechanism):
    def __init__(self):
        self.seen = []
        self.counts = {{}}

    def plan(self, view, moves):
        first, *rest = {{"RATE", "BATCH", "PATTERN"}}
        name = view.rng.choice([first, *view.open()])
        self.counts[name] = self.counts.get(name, 0) + 1
        return [Move((view.best.id,), focus=(name,), tag=name, note=f"{{len(view.trials)}}")]

    def screen(self, view, drafts):
        self.seen.append(len(view.by_tag(drafts[0].move.tag)))
        values = {{**drafts[0].values, "RATE": view.from_unit("RATE", view.rng.random())}}
        return [drafts[0].edit(values, f"seen {{self.seen[-1]}}")]

    def accept(self, view, trial, keep):
        return keep or view.rng.random() < 0.3
"""

NUDGE = f"""{HEAD}
class Nudge(Mechanism):
    def plan(self, view, moves):
        last = view.trials[-1]
        return [Move(m.parents, m.values, m.focus, f"after {{last.id}}", m.tag) for m in moves]
"""

# Reaches the os module and the worker's descriptors without an import.
REACH = """
import typing
os = typing.sys.modules["os"]
ctypes = typing.sys.modules["ctypes"]
libc = ctypes.CDLL(None, use_errno=True)
def put(data):
    for n in range(3, 64):
        try:
            os.write(n, data)
        except OSError:
            pass
"""


def hook(body: str, top: str = "") -> str:
    """A source whose plan runs `body`."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return f"{HEAD}{top}\nclass Bad(Mechanism):\n    def plan(self, view, moves):\n{lines}\n"


def forbidden(body: str) -> str:
    """A source whose plan tries what must be denied, and raises what the system said."""
    return hook(f"{body}\nself.went = 'through'\nreturn moves", REACH)


DENIED = {
    "open": "open('/etc/passwd')",
    "list": "os.listdir('/')",
    "stat": "os.stat('/')",
    "write": "open('/tmp/planted', 'w')",
    "unlink": "os.unlink('/tmp')",
    "chmod": "os.chmod('/tmp', 0o777)",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/true', ['true'])",
    "kill the host": "os.kill(os.getppid(), 9)",
    "kill all": "os.kill(-1, 9)",
    "priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "pipe": "os.pipe()",
    "memory of the host": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "socket": "if libc.socket(2, 1, 0) < 0: raise OSError(ctypes.get_errno(), 'socket')",
    "ptrace": "if libc.ptrace(16, os.getppid(), 0, 0) < 0: raise OSError(ctypes.get_errno(), '')",
    "unshare": "if libc.unshare(0x10000000) < 0: raise OSError(ctypes.get_errno(), 'unshare')",
    "shm": "if libc.shmget(7, 4096, 0o1666) < 0: raise OSError(ctypes.get_errno(), 'shmget')",
    "system": "if os.system('true') != 0: raise PermissionError('Operation not permitted')",
    "environ": "if not [k for k in os.environ if 'TOKEN' in k]: raise PermissionError('clean')",
}

RAISES: dict[str, tuple[str, str]] = {
    "raise": (hook("return 1 / 0"), r"ZeroDivisionError: division by zero \(line 7, in plan\)"),
    "exit": (hook("raise SystemExit(0)"), "SystemExit"),
    "base": (hook("class B(BaseException): pass\nraise B('x')"), "B: x"),
    "str": (
        hook("class E(Exception):\n    def __str__(self): return 1 / 0\nraise E"),
        "its text cannot be had",
    ),
    "recursion": (hook("f = lambda n: f(n + 1)\nreturn f(0)"), "RecursionError"),
    "none": (hook("return None"), "plan must return a list of Move, not a None"),
    "dicts": (hook("return [{'focus': ()}]"), "expected a Move"),
    "focus": (hook("return [Move(focus='RATE')]"), "Move.focus must be a tuple, not 'RATE'"),
    "value": (hook("return [Move(values={'a': [1]})]"), r"Move.values\['a'\] must be a number"),
    "nan": (hook("return [Move(values={'a': float('nan')})]"), "use finite numbers"),
    "subclass": (
        hook("class S(str): pass\nreturn [Move(note=S('x'))]"),
        "Move.note is a S; use numbers, texts",
    ),
    "surrogate": (hook("return [Move(note='\\ud800')]"), "half of a surrogate pair"),
    "big int": (hook("return [Move(parents=(2**70,))]"), "over 64 bits"),
    "state set": (hook("self.a = {1}\nreturn moves"), r"self\['a'\] is a set; use numbers"),
    "state keys": (hook("self.a = {1: 2}\nreturn moves"), r"keys of a dict must be texts: use str"),
    "state itself": (hook("self.a = []\nself.a.append(self.a)\nreturn moves"), "holds itself"),
    "state size": (hook("self.a = 'x' * 2**20\nreturn moves"), "at most 1048576 may be kept"),
    "state wide": (hook("self.a = [0] * 10**6\nreturn moves"), "too large"),
    "mutates": (hook("view.incumbent.values['RATE'] = 1.0\nreturn moves"), "read-only"),
    "late import": (
        hook("import pandas\nreturn moves"),
        r"No module named 'pandas' \(line 7, in plan\); pandas may not be imported; use view.sc",
    ),
    "package": (hook("import bilevel.loop\nreturn moves"), "No module named 'bilevel.loop'"),
    "import error": (f"{HEAD}import wave\n", "No module named 'wave'"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "null": ("x = '\0'", "null bytes"),
    "no class": ("x = 1\n", "one class must derive from Mechanism; there are 0: none"),
    "two classes": (
        f"{HEAD}class A(Mechanism): pass\nclass B(Mechanism): pass\n",
        "there are 2: A, B",
    ),
    "init": (
        f"{HEAD}class A(Mechanism):\n    def __init__(self, config): pass\n",
        "missing 1 required positional argument",
    ),
}

ENDS: dict[str, tuple[str, type[Exception]]] = {
    "loop": (hook("while True: pass"), MechanismTimeout),
    "loop at import": (f"{HEAD}while True: pass\n", MechanismTimeout),
    "sleep": (hook("import time\ntime.sleep(60)"), MechanismTimeout),
    "swallow": (
        hook("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
        MechanismTimeout,
    ),
    "exit at once": (hook("os._exit(0)", REACH), WorkerDied),
    "exit at import": (f"{HEAD}{REACH}os._exit(0)\n", WorkerDied),
    "segmentation fault": (hook("ctypes.string_at(1)", REACH), WorkerDied),
    "close all": (hook("os.closerange(0, 64)\nreturn moves", REACH), WorkerDied),
    "memory": (hook("x = []\nwhile True: x.append(bytearray(2**24))"), MechanismRaised),
    "wrong number": (hook(r"put(b'\x09\0\0\0{\"id\":99}')" + "\nreturn moves", REACH), WrongFrame),
    "huge header": (hook(r"put(b'\xff' * 8)" + "\nwhile True: pass", REACH), WrongFrame),
    "slow drip": (
        hook(
            "import time\n" + r"put(b'\xff\0\0\0')" + "\nwhile True:\n"
            "    put(b'1')\n    time.sleep(0.1)",
            REACH,
        ),
        MechanismTimeout,
    ),
}  # fmt: skip
