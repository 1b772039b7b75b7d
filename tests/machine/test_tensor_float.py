"""Whether CUDA may multiply in TensorFloat-32 is what the bench says, not what the environment does."""

import pytest
import torch

from bench.machine.tensor_float import forbid_tensor_float, tensor_float, tensor_float_allowed

CONV, MATMUL = torch.backends.cudnn, torch.backends.cuda.matmul


def old_names() -> tuple[bool, bool]:
    return CONV.allow_tf32, MATMUL.allow_tf32


@pytest.fixture(params=["nobody", "environment", "matrices", "convolutions", "cuDNN", "everything"])
def allowed_by(request):
    """Allow it in one of the ways that PyTorch has."""
    with tensor_float(allowed=False):
        match request.param:
            case "environment":  # TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is read at import, and does this
                torch.set_float32_matmul_precision("high")
            case "matrices":
                MATMUL.fp32_precision = "tf32"
            case "convolutions":
                CONV.conv.fp32_precision = "tf32"
            case "cuDNN":
                CONV.conv.fp32_precision = CONV.rnn.fp32_precision = "none"
                CONV.fp32_precision = "tf32"
            case "everything":
                MATMUL.fp32_precision = CONV.conv.fp32_precision = CONV.rnn.fp32_precision = "none"
                torch.backends.fp32_precision = "tf32"
        yield request.param
        CONV.fp32_precision = torch.backends.fp32_precision = "none"


@pytest.mark.filterwarnings("error")
def test_it_is_forbidden_and_allowed_for_both_whatever_was_said_before(allowed_by):
    for allowed in (False, True):
        before = tensor_float_allowed()
        with tensor_float(allowed=allowed):
            assert tensor_float_allowed() == old_names() == (allowed, allowed)
        assert tensor_float_allowed() == old_names() == before
    forbid_tensor_float()
    assert tensor_float_allowed() == old_names() == (False, False)


def test_what_was_said_is_seen(allowed_by):
    convolutions, products = tensor_float_allowed()
    assert convolutions == (allowed_by in ("convolutions", "cuDNN", "everything"))
    assert products == (allowed_by in ("environment", "matrices", "everything"))


def test_a_processor_does_not_mind():
    one, other = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
    products = []
    for allowed in (False, True):
        with tensor_float(allowed=allowed):
            products.append(one @ other)
    assert torch.equal(*products)
