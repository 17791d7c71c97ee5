"""Drop-in convolutions that do what follows them, too: convert(model, inference=True) makes such layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._ops.finish import NAMES, ActivationArgument, Finish
from .drop_in import Conv2d, as_torch
from .drop_in_1d import Conv1d
from .drop_in_transposed import ConvTranspose1d, ConvTranspose2d
from .packed import Prepackable

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..functional import Algorithm

# By the names of conv2d's `activation`, which has the same numbers.
MODULES: dict[str, Any] = {
    "none": torch.nn.Identity, "relu": torch.nn.ReLU, "clamp": torch.nn.Hardtanh, "leaky_relu": torch.nn.LeakyReLU,
    "hardsigmoid": torch.nn.Hardsigmoid, "hardswish": torch.nn.Hardswish, "sigmoid": torch.nn.Sigmoid,
    "silu": torch.nn.SiLU, "tanh": torch.nn.Tanh, "elu": torch.nn.ELU, "mish": torch.nn.Mish, "gelu": torch.nn.GELU,
    "gelu_tanh": lambda: torch.nn.GELU(approximate="tanh"),
}  # fmt: skip


class LayerAndActivation(torch.nn.Module):
    """What fused layers compute, by layers of torch.nn."""

    def __init__(self, layer: torch.nn.Module, finish: Finish) -> None:
        super().__init__()
        self.layer, self.activation_first = layer, finish.activation_first
        self.activation = MODULES[NAMES[finish.activation]](*finish.called[1])
        self.train(layer.training)

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        sums = self.layer(input)
        if residual is not None and not self.activation_first:
            sums = sums + residual
        out: Tensor = self.activation(sums)
        return out + residual if residual is not None and self.activation_first else out


class TransposedAndActivation(LayerAndActivation):
    """The same of a transposed layer, which may be told the size of its result."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # type: ignore[override]
        out: Tensor = self.activation(self.layer(input, output_size))
        return out


class FusedLayer(Prepackable):
    """What all fused layers are told and show."""

    def extra_repr(self) -> str:
        first = ", activation_first=True" if self.activation_first else ""
        return f"{super().extra_repr()}, activation={self.activation!r}{first}"


class FusedConvolution(FusedLayer):
    """What both fused convolutions add to the drop-ins that they are."""

    theirs: type[torch.nn.Module]  # the layer of torch.nn

    def __init__(
        self,
        *args: Any,
        activation: ActivationArgument = None,
        activation_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_finish(activation, activation_first)

    @classmethod
    def from_torch(
        cls,
        module: Any,
        algorithm: Algorithm | None = None,
        activation: ActivationArgument = None,
        activation_first: bool = False,
    ) -> Self:
        """As that of the drop-in, with what follows the convolution."""
        drop_in: Any = super()
        layer: Self = drop_in.from_torch(module, algorithm)
        layer.set_finish(activation, activation_first)
        return layer

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        layer: Any = self
        out: Tensor = layer._conv_forward(input, *self.weight_and_bias(), residual)
        return out

    def to_torch(self) -> LayerAndActivation:
        """A layer of torch.nn that shares everything with this one, and its activation behind it."""
        return LayerAndActivation(as_torch(self, self.theirs), self.finish)


class FusedConv2d(FusedConvolution, Conv2d):  # type: ignore[misc]  # no convolution of torch.nn does that
    """nhwc_conv.Conv2d with an activation and, where a call has one, a residual: both are done in the caches.

    layer(input) is activation(conv(input)), layer(input, residual) is activation(conv(input) + residual) or, with
    `activation_first`, activation(conv(input)) + residual.

    Takes the arguments of nhwc_conv.Conv2d, and `activation` and `activation_first` as nhwc_conv.conv2d has them.

    Raises:
        ValueError: unknown `activation`, and whatever nhwc_conv.Conv2d raises.
    """

    theirs = torch.nn.Conv2d

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, residual: Tensor | None = None) -> Tensor: ...


class FusedConv1d(FusedConvolution, Conv1d):  # type: ignore[misc]  # no convolution of torch.nn does that
    """nhwc_conv.Conv1d with what FusedConv2d does besides convolving.

    Takes the arguments of nhwc_conv.Conv1d, and `activation` and `activation_first` as nhwc_conv.conv2d has them.

    Raises:
        ValueError: unknown `activation`, and whatever nhwc_conv.Conv1d raises.
    """

    theirs = torch.nn.Conv1d

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, residual: Tensor | None = None) -> Tensor: ...


class FusedTransposed(FusedLayer):
    """What both fused transposed convolutions add to the drop-ins that they are."""

    theirs: Any  # the layer of torch.nn

    def __init__(self, *args: Any, activation: ActivationArgument = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_finish(activation, False)

    @classmethod
    def from_torch(cls, module: Any, activation: ActivationArgument = None) -> Self:
        """As that of the drop-in, with what follows the convolution."""
        drop_in: Any = super()
        layer: Self = drop_in.from_torch(module)
        layer.set_finish(activation, False)
        return layer

    def to_torch(self) -> TransposedAndActivation:
        """A layer of torch.nn that shares everything with this one, and its activation behind it."""
        return TransposedAndActivation(as_torch(self, self.theirs), self.finish)


class FusedConvTranspose2d(FusedTransposed, ConvTranspose2d):
    """nhwc_conv.ConvTranspose2d with an activation, which is done in the caches where the weight is packed.

    Else, and where a gradient is to come or somebody looks, the activation is torch's. Takes the arguments of
    nhwc_conv.ConvTranspose2d, and `activation` as nhwc_conv.conv2d has it.

    Raises:
        ValueError: unknown `activation`, and whatever nhwc_conv.ConvTranspose2d raises.
    """


class FusedConvTranspose1d(FusedTransposed, ConvTranspose1d):
    """nhwc_conv.ConvTranspose1d with an activation, as FusedConvTranspose2d has it.

    Takes the arguments of nhwc_conv.ConvTranspose1d, and `activation` as nhwc_conv.conv2d has it.

    Raises:
        ValueError: unknown `activation`, and whatever nhwc_conv.ConvTranspose1d raises.
    """
