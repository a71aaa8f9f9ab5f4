"""Linear layers that use oneDNN where PyTorch would use a slower library, and layers that stay in float32.

On x86 processors PyTorch uses oneDNN for float32 convolutions and MKL for float32 linear layers, which leaves half the
vector width of some processors unused. Both compute the same sums, in another order.
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
    """Linear layer ``x W^T + b`` with the parameters and values of :class:`torch.nn.Linear`, by a faster library.

    oneDNN is used for float32 on x86 processors outside autocast, compilers and exporters, with gradients or
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
        if not torch.jit.is_scripting():  # noqa: SIM102  # separate, or TorchScript would compile the condition below
            if _suits_onednn(x, self.weight):
                rows: Tensor = _Product.apply(x.reshape(-1, self.in_features), self.weight, self.bias)
                return rows.view(x.shape[:-1] + rows.shape[1:])
        return F.linear(x, self.weight, self.bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return bool(
        tuning.FAST_PATHS
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()  # vmap and its like support PyTorch's layer only
        and x.dtype == weight.dtype == torch.float32
        and x.shape[-1] == weight.shape[1]
        and x.numel() * weight.shape[0] >= _WORTH_A_CALL
        and x.device.type == weight.device.type == "cpu"
        and type(x) is Tensor  # no fake tensor, and no subclass with its own dispatch
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and not torch.is_autocast_enabled("cpu")
    )


class _Product(torch.autograd.Function):
    """Product of oneDNN with the gradient of a linear layer, which PyTorch lacks.

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
    """Apply a linear layer to offsets and cells, which autocast must not round to half precision.

    TorchScript has no such exception: run its programs without autocast.
    """
    if torch.jit.is_scripting():
        return F.linear(x.to(weight.dtype), weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(weight.dtype), weight, bias)


class FullPrecisionConv2d(nn.Conv2d):
    """Convolution in float32 under autocast: for the first and the last layer, whose rounding would be visible.

    The sums along the skips are then in full precision too; half precision makes the blocks faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # programs are run without autocast
            return self._conv_forward(x, self.weight, self.bias)
        with torch.autocast(x.device.type, enabled=False):
            return self._conv_forward(x.to(self.weight.dtype), self.weight, self.bias)
