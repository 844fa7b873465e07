"""What `bilevel mcp` says where MCP's SDK is not installed."""

import sys

import pytest

from bilevel.cli.mcp import mcp
from bilevel.errors import MissingExtra


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n == "bilevel.serving.server" or n.startswith("mcp.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bilevel\[mcp\]'"):
        mcp()
