"""The aten forms that the ops take on their way to ONNX, over the whole table against the oracle."""

import oracle
import pytest
import torch
from cases import CASES

from nhwc_conv._ops.onnx_export import FORMS

# The weight gradient of an empty batch would be a convolution of no channels, which aten does not compute.
every_case = pytest.mark.parametrize(
    "case", [case for case in CASES if case.x[0]], ids=lambda case: case.name
)


@every_case
def test_forms_of_the_ops(case):
    """Each form is the op, on every geometry."""
    x, w, bias = case.tensors(torch.float64)
    steps = tuple((v, v) if type(v) is int else v for v in (case.stride, case.padding, case.dilation))
    steps = *steps, case.groups, case.auto_pad
    out = FORMS["conv2d"](x, w, bias, *steps)
    oracle.check_forward(case, out, x, w, bias)
    grad = case.grad_like(out)
    gradients = [
        FORMS["conv2d_input"](grad, w, case.x[-3:-1], *steps),
        FORMS["conv2d_weight"](grad, x, case.w[:2], *steps),
    ]
    for form in (out, *gradients):
        assert form.is_contiguous()
    oracle.check_gradients(case, [*gradients, None][: 2 + case.bias], x, w, bias, grad)
