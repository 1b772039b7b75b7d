"""Kernels of our own put numbers where PyTorch's operations put them, to the last bit, and so are the gradients.

Each test runs on a device, where there is one, and on a processor, for which a C++ compiler translates the kernels.
"""

import ctypes
import shutil
import subprocess

import pytest
import torch
from torch import Tensor

from bench.compress import grid, grid_kernels

LOOP = """
#include <cmath>
{code}
extern "C" void run(float *out, long n, float **in, float low, float high) {{
    for (long i = 0; i < n; i++) out[i] = {name}({arguments}, low, high);
}}
"""


@pytest.fixture(scope="session")
def on_processor(tmp_path_factory):
    """Return what stands in for `_kernel`: the same code in a loop."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    compiled = {}

    def kernel(code: str):
        if code not in compiled:
            name, n = code.partition("(")[0].split()[-1], code.partition(")")[0].count(",") - 1
            folder = tmp_path_factory.mktemp(name)
            arguments = ", ".join(f"in[{k}][i]" for k in range(n))
            source = LOOP.format(code=grid_kernels._LEVEL + code, name=name, arguments=arguments)
            (folder / "kernel.cpp").write_text(source)
            command = [compiler, "-O1", "-ffp-contract=off", "-shared", "-fPIC", "kernel.cpp", "-o", "kernel.so"]
            subprocess.run(command, cwd=folder, check=True)
            compiled[code] = ctypes.CDLL(str(folder / "kernel.so")).run
        return lambda *tensors, low, high: run(compiled[code], tensors, low, high)

    return kernel


def run(function, tensors: tuple[Tensor, ...], low: float, high: float) -> Tensor:
    given = [each.detach().contiguous() for each in torch.broadcast_tensors(*tensors)]
    out = torch.empty_like(given[0])
    pointers = (ctypes.c_void_p * len(given))(*[each.data_ptr() for each in given])
    bounds = ctypes.c_float(low), ctypes.c_float(high)
    function(ctypes.c_void_p(out.data_ptr()), ctypes.c_long(out.numel()), pointers, *bounds)
    return out


@pytest.fixture(params=["processor", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    if request.param == "processor":
        monkeypatch.setattr(grid_kernels, "_kernel", request.getfixturevalue("on_processor"))
        return torch.device("cpu")
    assert grid_kernels._kernels_work()
    return torch.device("cuda")


def numbers(*shape: int) -> Tensor:
    """Return numbers some of which lie between two levels, on a bound, far out, or nowhere."""
    x = 6 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    flat = x.view(-1)
    flat[:9] = torch.tensor([0.5, 1.5, -0.5, 2.0, -2.0, -0.0, 1e30, torch.inf, -torch.inf])
    flat[9:20] = (torch.arange(11) - 5) * 0.25
    return x


def both(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, *, learned: bool) -> list[list[Tensor]]:
    """Return values and gradients, in PyTorch's operations and in kernels."""
    found = []
    for form in (grid._Grid, grid._Fused):
        point, step = x.clone().requires_grad_(), scale.clone().requires_grad_(learned)
        value = form.apply(point, step, zero, low, high, 0.125)
        value.backward(torch.linspace(-1, 1, x.numel(), device=x.device).view_as(x))
        found.append([value.detach(), point.grad, *([step.grad] if learned else [])])
    return found


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_activations_and_their_gradients_are_the_same(device, bits, learned):
    x, scale = numbers(4, 3, 8, 8).to(device), torch.tensor(0.37, device=device)
    zero = torch.tensor(float(2**bits // 3), device=device)
    theirs, ours = both(x, scale, zero, 0, 2**bits - 1, learned=learned)
    assert all(torch.equal(*each) for each in zip(theirs, ours, strict=True))
    assert [each.stride() for each in theirs] == [each.stride() for each in ours]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("top", [1, 7, 127, 2**31 - 1])
def test_weights_have_a_grid_for_each_channel(device, top, learned):
    x = numbers(5, 3, 3, 3).to(device)
    scale = torch.tensor([0.5, 1.0, 0.01, 3.0, 7.7], device=device).view(5, 1, 1, 1)
    theirs, ours = both(x, scale, scale.new_zeros(()), -top, top, learned=learned)
    assert all(torch.equal(*each) for each in zip(theirs, ours, strict=True))


def test_what_is_no_number_stays_none(device):
    x, scale = torch.full((2, 3), torch.nan, device=device), torch.tensor(0.5, device=device)
    theirs, ours = both(x, scale, scale.new_zeros(()), 0, 15, learned=True)
    for their, our in zip(theirs, ours, strict=True):
        assert torch.equal(their.isnan(), our.isnan())
    assert ours[0].isnan().all()


@pytest.mark.gpu
def test_maps_stay_as_they_lie_in_memory():
    x = numbers(4, 3, 8, 8).cuda().to(memory_format=torch.channels_last)
    scale = torch.tensor(0.5, device="cuda")
    assert grid_kernels.can_fuse(x, scale)
    theirs, ours = both(x, scale, scale.new_zeros(()), 0, 15, learned=False)
    for their, our in zip(theirs, ours, strict=True):
        assert torch.equal(their, our)
        assert our.is_contiguous(memory_format=torch.channels_last)


def test_a_gradient_has_a_gradient_of_its_own(device):
    found = []
    for form in (grid._Grid, grid._Fused):
        x, step = (each.to(device).requires_grad_() for each in (numbers(20), torch.tensor(0.5)))
        outside = torch.linspace(-1, 1, 20, device=device).requires_grad_()
        value = (form.apply(x, step, torch.zeros((), device=device), -2, 2, 0.125) * outside).sum()
        (to_x, to_step) = torch.autograd.grad(value, (x, step), create_graph=True)
        (again,) = torch.autograd.grad(to_x.square().sum() + to_step, outside)
        found.append([to_x, to_step, again])
    assert all(torch.equal(*each) for each in zip(*found, strict=True))
    assert found[0][2].any()


@pytest.fixture
def fresh():
    """Ask a device anew whether it can compile kernels, and forget what it says."""
    grid_kernels._kernels_work.cache_clear()
    yield
    grid_kernels._kernels_work.cache_clear()


def chosen(x: Tensor) -> str:
    scale = torch.tensor(0.5, device=x.device)
    return type(grid.on_grid(x.requires_grad_(), scale, scale.new_zeros(()), 0, 3).grad_fn).__name__


def test_a_processor_takes_pytorchs_operations():
    assert not grid_kernels.can_fuse(torch.zeros(1))
    assert chosen(torch.ones(2)) == "_GridBackward"


@pytest.mark.gpu
def test_a_device_takes_kernels_of_our_own(fresh):
    assert chosen(torch.ones(2, device="cuda")) == "_FusedBackward"
    assert chosen(torch.ones(2, device="cuda", dtype=torch.float64)) == "_GridBackward"


@pytest.mark.gpu
def test_a_device_without_a_compiler_takes_pytorchs_operations(monkeypatch, fresh):
    def kernel(code: str):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(grid_kernels, "_kernel", kernel)
    assert chosen(torch.ones(2, device="cuda")) == "_GridBackward"


def test_where_kernels_work_they_are_taken(monkeypatch, on_processor):
    monkeypatch.setattr(grid_kernels, "_kernel", on_processor)
    monkeypatch.setattr(grid_kernels, "can_fuse", lambda *tensors: True)
    assert chosen(torch.ones(2)) == "_FusedBackward"
