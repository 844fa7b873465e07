"""What can go wrong, as a tree. Every message says the rule broken, the value, and the remedy.

BilevelError
├── ConfigError           a file or option that the user wrote cannot be used
│   └── BrokenPackage     another package fails to give the mechanism that it names
├── MissingExtra          a library of an optional extra is not installed
├── InvalidCandidate      values outside the space, or that the task refuses
├── LLMError              a completion could not be had
│   ├── LLMUnavailable    no answer after the retries (network, time limit, server gone)
│   ├── LLMRejected       the server refused the request (400, 401, 404): never retried
│   │   └── ContextTooLong    the prompt, however cut, is longer than the model can read
│   └── TapeMiss          a replay asks for a completion that was never recorded
├── WeightsError          model weights are absent, incomplete, or not the bytes they should be
├── ExecutorError         the machinery that runs jobs failed (not the job)
├── OverBudget            a call or an evaluation that could cross a limit was not begun
├── StoreError
│   ├── RunNotFound       no run of that name
│   ├── RunBusy           another process is writing this run
│   └── SchemaTooNew      the store was written by a later version
├── WrongAnswer           a mechanism returned what its contract does not allow (stack.py)
└── SandboxRefused, MechanismError   of the sandbox, drawn in sandbox/errors.py
"""


class BilevelError(Exception):
    """Base of all errors that bilevel raises on purpose."""


class ConfigError(BilevelError):
    pass


class BrokenPackage(ConfigError):
    pass


class MissingExtra(BilevelError):
    pass


class InvalidCandidate(BilevelError):
    pass


class LLMError(BilevelError):
    pass


class LLMUnavailable(LLMError):
    pass


class LLMRejected(LLMError):
    pass


class ContextTooLong(LLMRejected):
    pass


class TapeMiss(LLMError):
    pass


class WeightsError(BilevelError):
    pass


class OverBudget(BilevelError):
    """limit: by name, `usd`, `2:tokens` or `wall`."""

    def __init__(self, limit: str, why: str) -> None:
        super().__init__(why)
        self.limit = limit


class ExecutorError(BilevelError):
    pass


class StoreError(BilevelError):
    pass


class RunNotFound(StoreError):
    pass


class RunBusy(StoreError):
    pass


class SchemaTooNew(StoreError):
    pass
