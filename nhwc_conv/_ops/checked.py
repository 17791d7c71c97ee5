"""The arguments of an op, checked, as a Geometry: what every implementation in Python begins with."""

from .._geometry import (
    Geometry,
    check_tensors,
    check_winograd,
    forward_geometry,
    input_geometry,
    weight_geometry,
)


def checked_forward(
    x, w, bias=None, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0
) -> Geometry:
    check_tensors(x=x, w=w, bias=bias)
    bias_shape = None if bias is None else bias.shape
    return forward_geometry(x.shape, w.shape, bias_shape, stride, padding, dilation, groups, auto_pad)


def checked_winograd(x, w, *args, **kwargs) -> Geometry:
    return check_winograd(checked_forward(x, w, *args, **kwargs))


def checked_input(
    grad, w, input_size, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0, algorithm=0
) -> Geometry:
    check_tensors(grad=grad, w=w)
    steps = stride, padding, dilation
    return input_geometry(grad.shape, w.shape, input_size, *steps, groups, auto_pad, algorithm)


def checked_weight(
    grad, x, kernel_size, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0, algorithm=0
) -> Geometry:
    check_tensors(grad=grad, x=x)
    steps = stride, padding, dilation
    return weight_geometry(grad.shape, x.shape, kernel_size, *steps, groups, auto_pad, algorithm)
