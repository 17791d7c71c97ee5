"""Subclasses of torch.nn.Conv2d that convolve by themselves: their own forward runs, F.conv2d in it is ours.

By a mode of torch's functions: it finds F.conv2d under every name and at any depth, in this thread and this call alone,
and torch.compile and torch.fx see through it. Each function of torch in such a forward costs a call of Python more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..functional import Algorithm
from ..nn import drop_in
from ..nn.twin import shallow_copy

# All that the forward of a layer of TensorFlow's SAME padding names, if it does nothing else.
SAME = "conv2d_same"
STEPS = {"weight", "bias", "stride", "padding", "dilation", "groups"}


class OurConvolutions(TorchFunctionMode):
    """Computes F.conv2d by nhwc_conv."""

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__()
        self.algorithm = algorithm

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is torch.conv2d:
            given = drop_in.conv2d_arguments(*args, **(kwargs or {}))
            return drop_in.conv2d_nchw(*given, algorithm=self.algorithm)  # type: ignore[misc]  # seven of them
        return function(*args, **(kwargs or {}))


def convolves_itself(cls: Any) -> bool:
    """Whether a subclass does not come to torch.nn.Conv2d's _conv_forward, as far as the names in its code tell."""
    if cls._conv_forward is not torch.nn.Conv2d._conv_forward:
        return True
    for base in cls.__mro__[: cls.__mro__.index(torch.nn.Conv2d)]:
        code = getattr(vars(base).get("forward"), "__code__", None)
        if code is not None and not {"super", "_conv_forward", "Conv2d"} & set(code.co_names):
            return True
    return False


def forward_of(cls: Any) -> Callable[..., Any]:
    """The forward of what stands in for such a class."""
    if pads_same(cls):
        return forward_same

    @wraps(cls.forward)  # torch.fx asks for its arguments
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with OurConvolutions(self.algorithm):
            return cls.forward(self, *args, **kwargs)

    return forward


def forward_same(self: Any, input: Tensor) -> Tensor:
    """A convolution with TensorFlow's SAME padding, which the kernel does: nothing is padded first."""
    steps = self.stride, "same", self.dilation, self.groups
    return drop_in.conv2d_nchw(input, self.weight, self.bias, *steps, self.algorithm)


def layer_with_same_padding(module: torch.nn.Module) -> torch.nn.Module:
    """A plain layer for one whose class `pads_same`."""
    layer = shallow_copy(module, drop_in.Conv2d)
    layer.algorithm, layer.padding, layer.padding_mode = "auto", "same", "zeros"
    return layer


def pads_same(cls: Any) -> bool:
    """Whether the forward of a class says that it calls `conv2d_same` and nothing else, and that does what it says."""
    code = getattr(cls.forward, "__code__", None)
    function = getattr(cls.forward, "__globals__", {}).get(SAME)
    return (
        code is not None
        and set(code.co_names) == {SAME, *STEPS}
        and function is not None
        and is_same(function)
    )


@cache
def is_same(function: Callable[..., Any]) -> bool:
    """Whether a function is a convolution with TensorFlow's SAME padding, tried on numbers whose sums are exact."""
    x, w, bias = (
        torch.arange(prod(size), dtype=torch.float64, device="cpu").view(size)
        for size in ((2, 2, 7, 6), (2, 2, 3, 2), (2,))
    )
    for stride, dilation in (((1, 1), (1, 1)), ((2, 3), (1, 1)), ((3, 2), (2, 3))):
        expected = drop_in.conv2d_nchw(x, w, bias, stride, "same", dilation, 1)
        try:
            if not torch.equal(function(x, w, bias, stride, (0, 0), dilation, 1), expected):
                return False
        except Exception:  # it is of other arguments
            return False
    return True
