"""What a row cost to make."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

REFERENCE_EPOCHS, REFERENCE_PASSES = 20, 2 * (7 + 1)
"""Adversarial training from scratch as the paper's baseline does it, with PGD-7 (Madry et al., 2018): for each training
image and epoch seven passes forward and backward of the attack, and one of the training."""


class Effort(BaseModel):
    """What the row cost to make.

    Attributes:
        finetune_forward: images that went forward through the model during fine-tuning, its attacks included.
        finetune_backward: images that went backward.
        attack_forward: images forward during the attack, through the model or a network that shows the way to it; and
            what the judge is shown of an attack on such a network.
        attack_backward: images backward during the attack.
        seconds: wall time by stage.
        finetune_seconds: wall time of fine-tuning's epochs; None in older records.
        finetune_peak_bytes: most memory held while fine-tuning: the device's; on a CPU the whole process's.
        train_images: images in the training set; None in older records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    finetune_forward: int
    finetune_backward: int
    attack_forward: int
    attack_backward: int
    seconds: dict[str, float]
    finetune_seconds: float | None = None
    finetune_peak_bytes: int | None = None
    train_images: int | None = None

    @property
    def relative_cost(self) -> float | None:
        """Images forward and backward of fine-tuning, divided by those of adversarial training from scratch.

        Attacks, checks and a teacher's answers count; how the parent was made does not, nor that a pass of a pruned
        network costs less. None where the size of the training set was not recorded.
        """
        if self.train_images is None:
            return None
        scratch = REFERENCE_EPOCHS * REFERENCE_PASSES * self.train_images
        return (self.finetune_forward + self.finetune_backward) / scratch
