import torch
from torch import nn

from bench.compress.prune_weights import PruneWeights
from bench.compress.quantize import Quantize
from bench.load.architectures import build
from bench.measure.size import compressed_bytes, count_parameters

SHAPE = (1, 8, 8)
# digits-cnn: weights of its convolutions (16, 32, 64) and its linears (64, 10), and a bias for each output.
WEIGHTS = [16 * 9, 32 * 16 * 9, 64 * 32 * 9, 64 * 64 * 16, 10 * 64]
OUTPUTS = 16 + 32 + 64 + 64 + 10


def test_parameters_of_a_twin_are_counted_once(quantized):
    model, twin = quantized(weight_bits=2, activation_bits=8)
    full, small = count_parameters(model), count_parameters(twin)
    assert small.parameters <= full.parameters == sum(p.numel() for p in model.parameters())
    assert small.nonzeros < 0.9 * small.parameters  # most small weights round to 0 at two bits


def test_zeros_and_shared_weights():
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight[0] = 0
        layer.bias.fill_(1)
    size = count_parameters(nn.Sequential(layer, nn.ReLU(), layer))
    assert (size.parameters, size.nonzeros) == (20, 16)


def kept(sparsity):
    """Return how many weights of the three inner layers are left."""
    return round((1 - sparsity) * sum(WEIGHTS[1:4]))


def test_a_float_model_stores_a_bit_for_each_weight_and_the_weights_that_are_left(given):
    twin = PruneWeights(sparsity=0.9)(*given(build("digits-cnn", SHAPE, 10).eval(), SHAPE)).twin
    bits = sum(WEIGHTS[1:4]) + 32 * kept(0.9)
    dense = 4 * (WEIGHTS[0] + WEIGHTS[4] + OUTPUTS)
    assert compressed_bytes(twin) - dense - bits // 8 in (0, 1, 2, 3)  # each layer is rounded up to bytes
    assert count_parameters(twin).nonzeros == kept(0.9) + WEIGHTS[0] + WEIGHTS[4] + OUTPUTS


def test_a_dense_model_takes_its_dense_size():
    model = build("digits-cnn", SHAPE, 10)
    assert compressed_bytes(model) == 4 * sum(p.numel() for p in model.parameters())


def test_a_twin_stores_what_is_left_on_its_grids_at_their_bits(given):
    subject, ingredients = given(build("digits-cnn", SHAPE, 10).eval(), SHAPE)
    twin = Quantize(weight_bits=4)(PruneWeights(sparsity=0.9)(subject, ingredients), ingredients).twin
    weights = [p for p in twin.parameters() if p.dim() > 1]
    quantizers = [m for m in twin.modules() if type(m).__name__ == "WeightQuantizer"]
    assert sorted(w.numel() for w in weights) == sorted(WEIGHTS)
    assert len(quantizers) == len(weights)
    left = [int((quantizers[0](weight) != 0).sum()) for weight in weights]
    expected = sum(min(w.numel() + 4 * n, 4 * w.numel()) / 8 for w, n in zip(weights, left, strict=True))
    grids = sum(buffer.numel() for buffer in twin.buffers())
    assert 0 <= compressed_bytes(twin) - expected - 4 * (2 * OUTPUTS + grids) < len(weights)
    assert sum(left) < kept(0.9) + WEIGHTS[0] + WEIGHTS[4]  # some more are zero once they are rounded


def test_two_of_four_costs_what_sparse_tensor_cores_store(given):
    twin = PruneWeights(pattern="2:4")(*given(build("digits-cnn", SHAPE, 10).eval(), SHAPE)).twin
    values, positions = 32 * sum(WEIGHTS[1:4]) // 2, 2 * sum(WEIGHTS[1:4]) // 2
    assert compressed_bytes(twin) == (values + positions) // 8 + 4 * (WEIGHTS[0] + WEIGHTS[4] + OUTPUTS)
