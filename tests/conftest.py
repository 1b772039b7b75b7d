import sys

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Let PyTorch sum in one order on every machine; small networks are no slower for it.

    Whoever needs PyTorch has imported it by now, and whoever does not need it need not wait for it.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
