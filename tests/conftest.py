import functools
import sys

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Let PyTorch sum in one order on every machine; small networks are no slower for it.

    Whoever needs PyTorch has imported it by now, and whoever does not need it need not wait for it.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def one_table_of_operators():
    """Let the exporter to ONNX keep its table of operators, which it builds anew, for a second, in each export.

    Not before something has imported the exporter, and not where its insides have changed.
    """
    table = getattr(sys.modules.get("torch.onnx._internal.exporter._registration"), "ONNXRegistry", None)
    build = getattr(table, "from_torchlib", None)
    if build is not None and not hasattr(build, "cache_info"):
        table.from_torchlib = staticmethod(functools.cache(build))
