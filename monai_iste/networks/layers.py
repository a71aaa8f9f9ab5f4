"""Linear layers whose products oneDNN computes, where PyTorch would take a slower library.

On x86 processors PyTorch gives float32 convolutions to oneDNN and float32 linear layers to MKL, which leaves half the
width of some processors' vectors unused. Both compute the same sums, in another order.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.networks import tuning

#: Multiplications below which calling oneDNN costs more than it saves.
_WORTH_A_CALL = 2**20


class Linear(nn.Linear):
    """``x W^T + b``: :class:`torch.nn.Linear`, with its parameters and its values, in a faster way where there is one.

    The faster way is taken for float32 on x86 processors outside autocast, compilers and exporters, with gradients or
    without; :data:`monai_iste.networks.tuning.FAST_PATHS` switches it off.

    Args:
        in_features, out_features, bias: those of :class:`torch.nn.Linear`.
    Shape:
        x: (..., in_features); returns (..., out_features)

    Example:
        >>> Linear(3, 5)(torch.zeros(2, 7, 3)).shape
        torch.Size([2, 7, 5])
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102  # by itself, or TorchScript would compile what follows
            if _suits_onednn(x, self.weight):
                rows: Tensor = _Product.apply(x.reshape(-1, self.in_features), self.weight, self.bias)
                return rows.view(x.shape[:-1] + rows.shape[1:])
        return F.linear(x, self.weight, self.bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return bool(
        tuning.FAST_PATHS
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()  # vmap and its like know PyTorch's layer only
        and x.dtype == weight.dtype == torch.float32
        and x.shape[-1] == weight.shape[1]
        and x.numel() * weight.shape[0] >= _WORTH_A_CALL
        and x.device.type == weight.device.type == "cpu"
        and type(x) is Tensor  # no tensor without numbers, and none that counts on being asked first
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and not torch.is_autocast_enabled("cpu")
    )


class _Product(torch.autograd.Function):
    """oneDNN's product has no gradient in PyTorch: this is the linear layer's, itself made of such products.

    Shape:
        x: (N, in_features); returns (N, out_features)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.save_for_backward(x, weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.to_mkldnn(), bias, "none", [], "")
        return product

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _Product.apply(grad, weight.t().contiguous(), None) if needs_x else None,
            grad.t() @ x if needs_weight else None,  # MKL's: for oneDNN both would have to be copied
            grad.sum(0) if needs_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """A linear layer on offsets and cells, which autocast does not round to half precision.

    TorchScript knows no such exception: its programs are to be run without autocast.
    """
    if torch.jit.is_scripting():
        return F.linear(x.to(weight.dtype), weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(weight.dtype), weight, bias)


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution that autocast leaves alone: the first and the last, whose rounding would be seen in the result.

    The sums along the skips are then in full precision too; it is the blocks that half precision makes faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # programs are run without autocast
            return self._conv_forward(x, self.weight, self.bias)
        with torch.autocast(x.device.type, enabled=False):
            return self._conv_forward(x.to(self.weight.dtype), self.weight, self.bias)
