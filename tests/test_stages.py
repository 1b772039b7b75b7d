"""What goes into an entry about costs."""

import dataclasses

import torch

from bench.compress.export import Artefact
from bench.dataset import Dataset, Examples
from bench.load.architectures import build
from bench.measure.size import compressed_bytes
from bench.model import Subject
from bench.stages import measure


def test_compressed_bytes_are_recorded_where_a_step_made_the_model_sparse_and_nowhere_else():
    network = build("digits-cnn", (1, 8, 8), 10).eval()
    with torch.no_grad():
        network.hidden.weight[:, ::2] = 0
    examples = Examples(images=torch.zeros(2, 1, 8, 8, dtype=torch.uint8), labels=torch.zeros(2, dtype=torch.long))
    dataset = Dataset(name="blank", train=examples, test=examples, n_classes=10)
    nothing = {"data": b"", "n_bytes": 1, "integer_macs_share": None}
    artefact = Artefact(kind="simulated", classifier=network, **nothing)
    subject = Subject.of(network)
    ours, parent = measure(dataclasses.replace(subject, sparse=True), artefact, artefact, dataset)
    assert ours.compressed_bytes == compressed_bytes(network) < 4 * ours.parameters
    assert ours.sparsity == 1 - ours.nonzeros / ours.parameters > 0.3
    assert ours.macs == parent.macs
    assert parent.compressed_bytes is None
    assert measure(subject, artefact, artefact, dataset)[0].compressed_bytes is None
