"""How many images go through a network at once: as many as are asked about, fewer where memory ends."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.errors import MissingError

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "alloc_failed", "failed to allocate memory")
"""What PyTorch on a CPU, cuDNN, cuBLAS and ONNX Runtime say, each in a kind of error that means other things, too."""


@dataclass(kw_only=True)
class Capacity:
    """How many images the device has shown itself able to hold; it only ever shrinks.

    Attributes:
        most: images in one pass; None until memory ran out for the first time, unless somebody wants no more.
    """

    most: int | None = None

    def shrink(self, tried: int, error: str) -> None:
        """Take half of what was tried from now on.

        Raises:
            MissingError: a single image was too much.
        """
        if tried <= 1:
            raise MissingError(f"Expected memory for one image at a time, got none ({error}); use another --device.")
        self.most = tried // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def in_parts(
    n: int, ask: Callable[[slice], tuple[Tensor, ...]], capacity: Capacity, *, most: int | None = None
) -> tuple[Tensor, ...]:
    """Return what `ask` says of n images, asked about together, or part after part where memory does not suffice.

    Guarantees:
        Running out of memory changes nothing but the size of the passes.

    Args:
        n: number of images.
        ask: answers for a slice of them, each answer with one row an image.
        capacity: shrunk where memory runs out.
        most: images in one pass, however many there is memory for.

    Raises:
        MissingError: memory does not suffice for one image.
    """
    answers, start = list[tuple[Tensor, ...]](), 0
    while start < n or not answers:
        stop, trouble = min([n, *(start + limit for limit in (most, capacity.most) if limit)]), ""
        try:
            answers.append(ask(slice(start, stop)))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            trouble = str(error).partition("\n")[0]
        # Outside of the handler: until it ends, the error's frames hold what filled the memory.
        if trouble:
            capacity.shrink(stop - start, trouble)
        else:
            start = stop
    return answers[0] if len(answers) == 1 else tuple(torch.cat(each) for each in zip(*answers, strict=True))


def out_of_memory(error: Exception) -> bool:
    """Say whether the error means that memory did not suffice."""
    told = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in told for sign in OUT_OF_MEMORY)
