"""A drop-in subclass of torch.nn.Conv2d: its parameters, arguments and memory formats, our convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin

from .._geometry import (
    SAME,
    as_ints,
    check_dense,
    forward_geometry,
    op_geometry,
    padding_argument,
    same_sides,
    texts,
)  # fmt: skip
from .._ops import convolve, is_recordable, nchw, ops
from .._ops.finish import NOTHING, Finish
from .._ops.finished import Call, convolve_and_finish
from .._ops.recorded import ALGORITHMS, NOT_COMPUTED
from .._ops.weight_order import hwio_size
from ..functional import AUTO, Algorithm, check_algorithm, conv2d
from .limits import Limited
from .packed import Prepackable
from .twin import M, twin

if TYPE_CHECKING:
    from typing_extensions import Self

PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]


@torch.fx.wrap
def conv2d_nchw(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    algorithm: Algorithm = "auto",
    finish: Finish = NOTHING,
    residual: Tensor | None = None,
) -> Tensor:
    """F.conv2d by nhwc_conv.conv2d: NCHW (or CHW) input, OIHW weight, F.conv2d's memory formats."""
    if finish.activation or residual is not None:
        check_shapes(input, weight, stride, padding, dilation, groups)
        sides, auto_pad = padding_argument(padding)
        geometry = op_geometry(stride, sides, dilation, groups, auto_pad)
        call = Call(True, algorithm, geometry, finish)
        if residual is None or fits(residual, input, weight, geometry):
            return convolve_and_finish(call, input, weight, bias, residual)
        sums = conv2d_nchw(input, weight, bias, stride, padding, dilation, groups, algorithm)
        return finish.of(sums, residual)
    if algorithm in ALGORITHMS and is_recordable(input, weight, bias):
        sides, auto_pad = padding_argument(padding)
        try:
            return convolve(True, algorithm, input, weight, bias, stride, sides, dilation, groups, auto_pad)
        except NOT_COMPUTED:
            pass  # computed in another way, or refused in F.conv2d's words
    check_shapes(input, weight, stride, padding, dilation, groups)
    with nchw.without_views(input, weight, bias):
        x, w = nchw.views(input, weight)
        out = conv2d(x, w, bias, stride, padding, dilation, groups, algorithm=algorithm)
        return nchw.result(out, input, weight)


def fits(residual: Tensor, input: Tensor, weight: Tensor, geometry: Any) -> bool:
    """Whether a residual is like the result of a convolution; other tensors may be added to that nevertheless."""
    x = *input.shape[:-3], *input.shape[-2:], input.shape[-3]
    *batch, rows, columns, channels = forward_geometry(x, hwio_size(weight, True), None, *geometry).out_shape
    return residual.dtype == input.dtype and tuple(residual.shape) == (*batch, channels, rows, columns)


def conv2d_arguments(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> tuple[Any, ...]:
    """The arguments of torch.conv2d in order: it has no signature that Python could read."""
    return input, weight, bias, stride, padding, dilation, groups


def check_shapes(
    input: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    """In F.conv2d's words, what could not be viewed as NHWC and HWIO, or would be shown so by the op."""
    if input.is_nested or not (input.layout is weight.layout is torch.strided):
        check_dense(input=input, weight=weight)
    if weight.dim() != 4:
        texts.fail(texts.RANKS, dims=weight.dim(), weight=weight.shape, input=input.shape, actual=input.dim())
    if input.dim() not in (3, 4):
        texts.fail(texts.RANK, least=3, most=4, name="input", size=input.shape, op="conv2d")
    channels, expected = input.shape[-3], weight.shape[1] * groups
    if channels != expected:
        sides, auto_pad = padding_argument(padding)
        geometry = op_geometry(stride, sides, dilation, groups, auto_pad)
        # Other values first, as F.conv2d does: with enough channels, this is what the op would be asked for.
        x = *input.shape[:-3], *input.shape[-2:], expected
        w = *weight.shape[2:], weight.shape[1], weight.shape[0]
        forward_geometry(x, w, None, *geometry)
        shapes = dict(weight=weight.shape, input=input.shape)
        texts.fail(texts.NCHW_CHANNELS, groups=groups, expected=expected, actual=channels, **shapes)


class WithAlgorithm(Limited):
    """What drop-ins for convolutions have in common: an algorithm of nhwc_conv.conv2d, kept and shown."""

    algorithm: Algorithm = AUTO  # for layers unpickled from before they had one

    @classmethod
    def twin_of(cls, module: torch.nn.Module, algorithm: Algorithm | None) -> Self:
        """The layer that shares everything with `module`, and without `algorithm` that of `module`, too."""
        chosen: Algorithm = getattr(module, "algorithm", AUTO) if algorithm is None else algorithm
        check_algorithm(chosen)
        layer = twin(module, cls)
        layer.algorithm = chosen
        return layer

    def extra_repr(self) -> str:
        algorithm = "" if self.algorithm == "auto" else f", algorithm={self.algorithm}"
        return super().extra_repr() + algorithm


class Conv2d(Prepackable, WithAlgorithm, torch.nn.Conv2d):
    """torch.nn.Conv2d computed by nhwc_conv.

    Takes the arguments of torch.nn.Conv2d, four sides of `padding` (top, bottom, left, right) beyond them, and
    `algorithm` (see nhwc_conv.conv2d). Parameters, initial values, state_dict, shapes, dtypes and memory formats of
    results are those of torch.nn.Conv2d; input in channels_last is used in place.

    Raises:
        ValueError: unknown `algorithm`, and whatever torch.nn.Conv2d raises.
    """

    oihw = True

    if TYPE_CHECKING:

        def __call__(self, input: Tensor) -> Tensor: ...

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: Algorithm = "auto",
    ) -> None:
        if not isinstance(padding, str):
            as_ints("padding", padding)  # torch.nn.Conv2d takes anything until it is called
        steps = stride, padding, dilation, groups
        super().__init__(in_channels, out_channels, kernel_size, *steps, bias, padding_mode, device, dtype)
        check_algorithm(algorithm)
        self.algorithm = algorithm

    @classmethod
    def from_torch(cls, module: torch.nn.Conv2d, algorithm: Algorithm | None = None) -> Self:
        """The layer that shares the parameters, the hooks and everything else of `module`, but not its `compile()`.

        Without `algorithm` it takes that of `module`, "auto" for one of torch.nn.

        Raises:
            ValueError: unknown `algorithm`, or a `module` that computes something else than torch.nn.Conv2d.
        """
        check_convolution(module, torch.nn.Conv2d, Conv2d)
        return cls.twin_of(module, algorithm)

    def to_torch(self) -> torch.nn.Conv2d:
        """The torch.nn.Conv2d that shares the parameters, the hooks and everything else of this layer.

        Raises:
            ValueError: a subclass that computes something else; nhwc_conv.revert knows those that `convert` made.
        """
        check_convolution(self, torch.nn.Conv2d, Conv2d)
        return as_torch(self, torch.nn.Conv2d)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, *self.weight_and_bias())

    def _conv_forward(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = None
    ) -> Tensor:
        padding: str | int | tuple[int, ...] = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        steps = self.stride, padding, self.dilation, self.groups
        if self._packed is not None:
            packed_result = self.convolve_packed(input, weight, bias, steps, residual)
            if packed_result is not None:
                return packed_result
            packing = self.packing_in_graph(input, weight, bias, residual)
            if packing is not None:
                check_shapes(input, weight, *steps)
                sides, auto_pad = padding_argument(padding)
                packed, size, *fallback = packing
                geometry = self.stride, sides, self.dilation, self.groups, auto_pad
                added = None if residual is None else nchw.to_nhwc(residual)
                rest = *geometry, *fallback, *self.finish_in_graph(added)
                out = ops.conv2d_packed(nchw.to_nhwc(input), packed, size, bias, *rest)
                return nchw.result(out, input, weight)
        return conv2d_nchw(input, weight, bias, *steps, self.algorithm, self.finish, residual)


def check_convolution(module: torch.nn.Module, theirs: Any, ours: Any) -> None:
    """ValueError unless `module` computes what `theirs` does, of which `ours` is the drop-in: no subclass with more."""
    cls: Any = type(module)
    found = cls.__name__
    if isinstance(module, theirs) and not isinstance(module, LazyModuleMixin):
        names = "forward", "_conv_forward"
        replaced = [name for name in names if name in vars(module)]
        if replaced:
            found += f" with a {replaced[0]} of its own"
        elif all(getattr(cls, name) in (getattr(theirs, name), getattr(ours, name)) for name in names):
            return
    raise ValueError(
        f"expected a torch.nn.{theirs.__name__} that knows its shape and computes nothing else, but got {found}"
    )


class SamePadded(torch.nn.Conv2d):
    """torch.nn.Conv2d whose padding "same" is TensorFlow's at every stride: torch has it at stride 1 alone."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        steps = zip(input.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True)
        h, w = (same_sides(*axis, SAME) for axis in steps)
        return F.conv2d(F.pad(input, (*w, *h)), weight, bias, self.stride, 0, self.dilation, self.groups)


def as_torch(layer: torch.nn.Module, cls: type[M]) -> M:
    """The twin of `layer` whose class `cls` knows nothing of ours."""
    strides: Any = vars(layer).get("stride", 1)
    if vars(layer).get("padding") == "same" and cls is torch.nn.Conv2d and set(strides) != {1}:
        cls = SamePadded  # type: ignore[assignment]
    module = twin(layer, cls)
    for ours in ("algorithm", "_packed", "activation", "activation_first", "finish"):
        module.__dict__.pop(ours, None)
    return module
