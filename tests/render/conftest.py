from collections.abc import Sequence

import pytest
from factories import make_entry, make_letters, make_rows

from bench.board.leaderboard import Row
from bench.entry import Entry


@pytest.fixture
def entry() -> Entry:
    return make_entry("quant8-advft", make_letters())


@pytest.fixture
def rows() -> Sequence[Row]:
    return make_rows()
