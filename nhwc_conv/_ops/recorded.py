"""The forward ops in their short forms, for tensors that nobody but autograd looks at. They take NHWC or NCHW tensors.

With a gradient to come, aten's convolution_overrideable: PyTorch's convolution for others to compute, and the one op of
which autograd keeps a record in C++. A Function in Python costs a small convolution several times what it computes.
All that it is told but the tensors stands in `output_padding`, which only a transposed convolution has. Without one, an
op of ours that takes as little. The kernels of both are in csrc/binding/aten_convolution.cpp.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as autocast_enabled
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch._C import _len_torch_function_stack as function_modes
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.compiler import is_compiling

from .. import _extension, _flags
from .._geometry.dtypes import ARITHMETIC
from .derivatives import ForwardRule
from .listeners import PLAIN, is_transformed, needs_gradient
from .memory_format import in_format, is_result_channels_last, weight_format
from .mixed_precision import cast_as_active
from .schema import library, ops
from .weight_order import HWIO, OIHW

# By the names of conv2d's argument: the number of the forward pass, and that of the gradients.
ALGORITHMS = {"auto": (0, 0), "im2col": (1, 1), "matmul": (2, 1), "winograd": (3, 2)}
available = _extension.available
_recorded = torch.ops.aten.convolution_overrideable.default._op
short_ops: Any = ops  # by this name the extension's alone, which the type of `ops` leaves out
_convolve: Any
# conv2d_packed of tensors that are recordable, where no gradient is recorded. Raises as `convolve` does.
convolve_packed: Any
convolve_finished: Any  # with the last steps of finish.py, which stand in `kind`, a residual and two numbers
convolve_program: Any  # many of these, one after the other
_convolve, convolve_packed, convolve_finished, convolve_program = (
    getattr(short_ops, name).default._op if available else None
    for name in ("_convolve", "_convolve_packed", "_convolve_finished", "_convolve_program")
)


def is_recordable(x: Tensor, w: Tensor, bias: Tensor | None) -> bool:
    """Whether nobody but autograd needs to see what is done to the tensors, and the extension computes it."""
    return (
        not is_compiling()  # torch.compile looks no further
        and not is_transformed()
        and available
        and type(x) in PLAIN
        and type(w) in PLAIN
        and (bias is None or type(bias) in PLAIN)
        and x.is_cpu
        and x.dtype in ARITHMETIC
        and w.dtype in ARITHMETIC
        and not function_modes()
        and not dispatch_modes()
    )


def convolve(
    nchw: bool,
    algorithm: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    auto_pad: int,
) -> Tensor:
    """The convolution of tensors that are recordable, under autocast too.

    Raises TypeError, ValueError or RuntimeError for whatever it does not compute; where tensors are NCHW, the last
    speaks of their NHWC views.
    """
    steps, sides = as_fields(stride, padding, dilation)
    forward, backward = ALGORITHMS[algorithm]
    kind = nchw | forward << 1 | auto_pad << 5
    if autocast_enabled():
        given_w, given_bias = w, bias
        x, w, bias = cast_as_active(x, w, bias)
        if given_w.dtype != x.dtype and given_w.dtype == ARITHMETIC.get(x.dtype):
            # Rounded below autograd, lest gradients be.
            w, bias, kind = given_w, given_bias, kind | MIXED
    if needs_gradient(x, w, bias):
        # What was ruled out in forward stays so in backward.
        kind |= (backward or int(not _flags.winograd)) << 3
        return _recorded(x, w, bias, (), (), (), False, (kind, steps, sides), groups)
    return _convolve(x, w, bias, kind, steps, sides, groups)


def short_call(
    nchw: bool, stride: Any, padding: Any, dilation: Any, groups: int, auto_pad: int
) -> tuple[int, ...]:
    """What `convolve_packed` takes after x, packed and bias. Raises as `as_fields` does."""
    return nchw | auto_pad << 5, *as_fields(stride, padding, dilation), groups


MIXED = 1 << 7  # of `kind`, whose other bits aten_convolution.cpp tells
NOT_COMPUTED = (TypeError, ValueError, RuntimeError)  # what convolve raises


def as_fields(stride: Any, padding: Any, dilation: Any) -> tuple[int, int]:
    """Strides and dilations, and the sides of the padding, in 16 bits each.

    TypeError or ValueError: not ints, or another number of them, or too large ones.
    """
    h, w = (stride, stride) if type(stride) is int else stride
    down, across = (dilation, dilation) if type(dilation) is int else dilation
    if type(padding) is int:
        top = bottom = left = right = padding
    elif len(padding) == 2:
        top, left = bottom, right = padding
    else:
        top, bottom, left, right = padding
    bits = h | w | down | across | top | bottom | left | right
    if type(bits) is not int or bits >> 15:  # of NumPy's, which may have 32 bits; of a negative number, -1
        raise ValueError("not within 15 bits")
    return h | w << 16 | down << 32 | across << 48, top | bottom << 16 | left << 32 | right << 48


def read_fields(steps: int, sides: int) -> tuple[tuple[int, ...], ...]:
    """The stride, the padding of four sides and the dilation that `as_fields` wrote."""
    (h, w, down, across), padding = (tuple(n >> 16 * i & 0x7FFF for i in range(4)) for n in (steps, sides))
    return (h, w), padding, (down, across)


class _Record:
    """What ForwardRule knows of a convolution that is differentiated again."""

    def __init__(self, needs: tuple[bool, ...], *call: Any) -> None:
        self.needs_input_grad = None, *needs
        self.call = call


def gradients(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
    groups: int,
    *needs: bool,
) -> tuple[Tensor | None, ...]:
    """convolution_backward_overrideable by ops that have derivatives, batching rules and tangents themselves."""
    kind = 1  # of PyTorch's own arguments
    if len(output_padding) == 3:
        kind, *fields = output_padding
        stride, padding, dilation = read_fields(*fields)
    nchw, algorithm, auto_pad = kind & 1, kind >> 3 & 3, kind >> 5 & 3
    geometry = stride, padding, dilation, groups, auto_pad
    x, w = (input.movedim(-3, -1), weight.permute(HWIO)) if nchw else (input, weight)
    record = _Record(needs, None, None, geometry, x.shape, w.shape, algorithm, w.dtype)
    dx, dw, dbias = ForwardRule.gradients(record, x, w, grad.movedim(-3, -1) if nchw else grad)
    if nchw:
        dx = None if dx is None else in_format(dx.movedim(-1, -3), is_result_channels_last(input, weight))
        dw = None if dw is None else dw.permute(OIHW).clone(memory_format=weight_format(weight))
    return dx, dw, dbias


def gradients_in_order(ctx: Any, x: Tensor, w: Tensor, grad: Tensor) -> tuple[Tensor | None, ...] | None:
    """Gradients in a graph of torch.compile, of a weight that is a view of torch's: by the op that knows its order.

    Autograd keeps what the graph returns where it lies in memory as the weight does, and else copies it, slowly. None
    where that is not so, or for ForwardRule to do.
    """
    _, need_x, need_w, need_bias, *_ = ctx.needs_input_grad
    _, _, (*steps, groups, auto_pad), _, _, algorithm, w_dtype = ctx.call
    if (
        type(grad) is not FunctionalTensor
        or not available
        or torch.is_grad_enabled()
        or is_transformed()
        or not (need_x and need_w)  # without need of x there is no weight
        or grad.dim() != 4
        or w.is_contiguous()
        or not (grad.is_cpu and grad.dtype == w_dtype and grad.dtype in ARITHMETIC)
    ):
        return None
    try:
        fields = as_fields(*steps)
    except NOT_COMPUTED:  # sizes that are not known
        return None
    call = (), (), (), (1 | algorithm << 3 | auto_pad << 5, *fields), groups, need_x, need_w, need_bias
    nchw = grad.movedim(-1, 1), x.movedim(-1, 1), w.permute(OIHW)
    dx, dw, dbias = short_ops._convolution_gradients(*nchw, *call)
    return dx.movedim(1, -1), dw.permute(HWIO), dbias


def transformed_gradients(
    grad: Tensor, input: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, *rest: Any
) -> tuple[Tensor | None, ...]:
    _, output_padding, groups, needs = rest
    return gradients(grad, input, weight, stride, padding, dilation, output_padding, groups, *needs)


if available:
    library.impl("_convolution_backward", gradients, "CompositeImplicitAutograd")
    torch.library.register_fake("nhwc_conv::_convolution_gradients", gradients, lib=library)
    # Where a record that was made outside of a transform of torch.func is run inside of it.
    aten = torch.library.Library("aten", "IMPL")
    aten.impl("convolution_backward_overrideable", transformed_gradients, "FuncTorchDynamicLayerFrontMode")
