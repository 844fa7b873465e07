"""The server of the embedded LLM with other settings than its own, for benchmarks.

Started in place of `bilevel/llm/server.py`. LLM_SERVER_CHANGES holds JSON: `settings`, by their
names in xllamacpp's CommonParams, values of enumerations as "ggml_type.GGML_TYPE_Q8_0"; and
`environment`, set before the library is loaded.
"""

from __future__ import annotations

import json
import os
from typing import Any

VARIABLE = "LLM_SERVER_CHANGES"


def main() -> None:
    changes = json.loads(os.environ[VARIABLE])
    os.environ.update(changes["environment"])  # before OpenMP reads it
    import xllamacpp

    from bilevel.llm import server

    start = xllamacpp.Server

    def started(params: Any) -> Any:
        params.endpoint_metrics = True
        for path, value in changes["settings"].items():
            *owners, name = path.split(".")
            owner = params
            for each in owners:
                owner = getattr(owner, each)
            setattr(owner, name, _value(xllamacpp, value))
        return start(params)

    xllamacpp.Server = started
    server.main()


def _value(library: Any, value: Any) -> Any:
    """The value, and the member of an enumeration for its name."""
    if isinstance(value, list):
        return [_value(library, each) for each in value]
    if not isinstance(value, str):
        return value
    kind, _, member = value.partition(".")
    return getattr(library, kind)[member]


if __name__ == "__main__":
    main()
