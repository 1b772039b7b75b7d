"""What a prediction costs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]

COUNTED = ("macs", "bops", "parameters", "bytes")
"""The costs that a count gives; the latency is for a clock to say."""


class Latency(BaseModel):
    """Time of the deployed artefact, measured in alternation with its parent's in one process.

    Attributes:
        runtime: "onnxruntime 1.31.1".
        threads: intra-operator threads.
        median_ms: median time of one image by itself, milliseconds.
        p90_ms: 90th percentile of the same (MLPerf's single stream).
        images_per_s: throughput at batch 64.
        ratio: median time relative to the parent's, batch 1.
        ratio_64: the same at batch 64.
        noisy: whether the windows spread too widely to be trusted, after a second try.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    runtime: str
    threads: int
    median_ms: Amount
    p90_ms: Amount
    images_per_s: Amount
    ratio: Amount
    ratio_64: Amount
    noisy: bool


class Efficiency(BaseModel):
    """Cost of one prediction, and of the model itself.

    Attributes:
        macs: multiply-accumulates of one forward pass on one image.
        bops: sum over layers of MACs × weight bits × activation bits (32 where not quantised).
        parameters: number of weights and biases.
        nonzeros: how many of them are not zero.
        bytes: size of the artefact a user ships.
        compressed_bytes: size of its numbers with the zeros left out; None where no step made the model sparse.
        artefact: "onnx-int8", "onnx-float32", "torch" or "simulated" (no integer kernels exist for its bits).
        integer_macs: share of MACs that run as integer operations; None where nothing is quantised.
        latency: of the deployed artefact; None where it is simulated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    macs: Count
    bops: Count
    parameters: Count
    nonzeros: Count
    bytes: Count
    compressed_bytes: Count | None = None
    artefact: str
    integer_macs: float | None = None
    latency: Latency | None = None

    @property
    def sparsity(self) -> float:
        """Share of parameters that are zero."""
        return 1 - self.nonzeros / self.parameters if self.parameters else 0.0

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-accumulate."""
        return 2 * self.macs
