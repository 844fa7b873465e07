"""What can go wrong behind the wall.

SandboxError
├── SandboxRefused      this machine cannot lock a worker down, or the source may not be sent
└── MechanismError      one call failed; the stack logs it as a Fault under the class's name
    ├── MechanismRaised     the mechanism raised, or returned what its hook may not
    ├── MechanismTimeout    no answer in the time given; the worker was killed
    ├── WorkerDied          the worker ended twice in a row without an answer
    └── WrongFrame          what came back is no answer of the protocol; the worker was killed
"""

from bilevel.errors import BilevelError


class SandboxError(BilevelError):
    pass


class SandboxRefused(SandboxError):
    pass


class MechanismError(SandboxError):
    pass


class MechanismRaised(MechanismError):
    """`module`: name of a module that was asked for and is not there, or ""."""

    def __init__(self, message: str, module: str = "") -> None:
        super().__init__(message)
        self.module = module


class MechanismTimeout(MechanismError):
    pass


class WorkerDied(MechanismError):
    pass


class WrongFrame(MechanismError):
    pass
