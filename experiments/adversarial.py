"""Conditional adversarial training with MONAI's AdversarialTrainer: losses, batches, inferer and trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.engines import AdversarialTrainer, PrepareBatch, default_prepare_batch
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.losses import PatchAdversarialLoss
from monai.utils import AdversarialIterationEvents, AdversarialKeys, CommonKeys
from torch import Tensor, nn


def _least_squares() -> PatchAdversarialLoss:
    return PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)


class GeneratorLoss(nn.Module):
    """Adversarial loss of the generator (LSGAN): ``weight * mean((D(generated) - 1)^2)``.

    Mao et al., "Least Squares Generative Adversarial Networks", arXiv:1611.04076; the weight from Li et al., Medical
    Image Analysis 68 (2021) 101938.

    Args:
        weight: factor of the loss.
    Shape:
        fake: output of the discriminator, any shape; returns a scalar

    Example:
        >>> float(GeneratorLoss(weight=0.5)(torch.tensor([1.0, 3.0])))
        1.0
    """

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__()
        self.weight, self.loss = weight, _least_squares()

    def forward(self, fake: Tensor) -> Tensor:
        return self.weight * self.loss(fake, target_is_real=True, for_discriminator=False)


class DiscriminatorLoss(nn.Module):
    """Loss of the discriminator (LSGAN): ``(mean((D(real) - 1)^2) + mean(D(generated)^2)) / 2``.

    Shape:
        real, fake: outputs of the discriminator, any shape; returns a scalar

    Example:
        >>> float(DiscriminatorLoss()(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])))
        2.0
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = _least_squares()

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        return (self.loss(real, True, True) + self.loss(fake, False, True)) / 2


class WeightedLoss(nn.Module):
    """Multiply a loss by a constant: ``weight * loss(pred, target)``.

    Args:
        loss: function of a prediction and its target.
        weight: factor; Li et al. have 0.99 beside an adversarial loss of 0.01.
    Shape:
        as the loss.

    Example:
        >>> float(WeightedLoss(nn.L1Loss(), 0.5)(torch.ones(3), torch.zeros(3)))
        0.5
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weight: float = 0.99) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.weight * self.loss(pred, target)


class PrepareConditional(PrepareBatch):
    """Prepare batches for a conditional GAN: the image is also passed to the discriminator, as ``condition``."""

    def __call__(
        self,
        batchdata: dict[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, tuple[()], dict[str, Tensor]]:
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        return image, label, (), {"condition": image}


class GeneratorInferer(Inferer):
    """Call the generator as ``network(image, scale=...)``, without the discriminator's ``condition``.

    Args:
        scale: 1 for images that already have their final size; None for the network's own scale.
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return network(inputs, scale=self.scale)


class ConditionalAdversarialTrainer(AdversarialTrainer):
    """AdversarialTrainer for image pairs: the label is the real image, and handlers of a SupervisedTrainer work.

    Each step updates the generator, then the discriminator, on the same pair. It differs from MONAI's trainer in four
    points. MONAI's takes the input as the real image, which suits autoencoders. It fires no events that handlers of a
    SupervisedTrainer use. It puts whole networks into its state, which a checkpoint read with ``weights_only`` must not
    hold. Here:

    * the discriminator compares the label with the generator's output;
    * ``IterationEvents.LOSS_COMPLETED`` follows either network's loss, before its backward pass; ``BACKWARD_COMPLETED``
      the generator's backward pass; ``MODEL_COMPLETED`` the step, so that the output is split into items;
    * ``output["loss"]`` is the generator's loss, ``output["discriminator_loss"]`` the discriminator's;
    * the trainer's state is its step count; :class:`~monai_iste.handlers.Checkpoints` saves networks and optimizers.

    Args:
        args, kwargs: those of MONAI's AdversarialTrainer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state_dict_user_keys.clear()
        events = AdversarialIterationEvents
        self.add_event_handler(events.GENERATOR_FORWARD_COMPLETED, self._take_label_as_real)
        self.add_event_handler(events.GENERATOR_LOSS_COMPLETED, self._sum_losses)
        self.add_event_handler(events.GENERATOR_BACKWARD_COMPLETED, self._fire, IterationEvents.BACKWARD_COMPLETED)
        self.add_event_handler(events.DISCRIMINATOR_LOSS_COMPLETED, self._fire, IterationEvents.LOSS_COMPLETED)

    def _take_label_as_real(self) -> None:
        self.state.output[AdversarialKeys.REALS] = self.state.output[CommonKeys.LABEL]

    def _sum_losses(self) -> None:
        output = self.state.output
        parts = (AdversarialKeys.RECONSTRUCTION_LOSS, AdversarialKeys.GENERATOR_LOSS)
        output[CommonKeys.LOSS] = output[parts[0]] + output[parts[1]]
        self.fire_event(IterationEvents.LOSS_COMPLETED)

    def _fire(self, event: IterationEvents) -> None:
        self.fire_event(event)

    def _iteration(self, engine: AdversarialTrainer, batchdata: dict[str, Tensor]) -> Any:
        super()._iteration(engine, batchdata)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


def parallel_like(network: nn.Module, other: nn.Module) -> nn.Module:
    """Wrap ``other`` in DistributedDataParallel if ``network`` is wrapped, so that both average their gradients."""
    if not isinstance(network, nn.parallel.DistributedDataParallel):
        return other
    return nn.parallel.DistributedDataParallel(other, device_ids=network.device_ids)
