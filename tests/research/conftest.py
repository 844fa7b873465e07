from collections.abc import Iterator

import pytest

from bilevel import engine
from outer_worlds import QuickGate


@pytest.fixture(scope="module")
def quick_gate() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Gate", QuickGate)
        yield
