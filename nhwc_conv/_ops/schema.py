"""The ops' schemas: the extension defines them in C++, for programs without Python; installations without it, here."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from .. import _extension

if TYPE_CHECKING:
    from .signatures import Ops

T = TypeVar("T")

GEOMETRY = "int[2] stride=1, int[2] padding=0, int[2] dilation=1, int groups=1, int auto_pad=0"
FORWARD = f"(Tensor x, Tensor w, Tensor? bias=None, {GEOMETRY}) -> Tensor"
INPUT = f"(Tensor grad, Tensor w, SymInt[2] input_size, {GEOMETRY}, int algorithm=0) -> Tensor"
PACK = "(Tensor w, int groups=1, bool winograd=True, bool oihw=False) -> Tensor"
PACKED = (
    f"(Tensor x, Tensor packed, SymInt[4] weight_size, Tensor? bias=None, {GEOMETRY}, "
    "Tensor? weight=None, bool oihw=False, bool nchw=False, Tensor? residual=None, int activation=0, "
    "float alpha=0.0, float beta=0.0, bool activation_first=False) -> Tensor"
)
WEIGHT = (
    f"(Tensor grad, Tensor x, SymInt[2] kernel_size, {GEOMETRY}, int algorithm=0, "
    "ScalarType? out_dtype=None) -> Tensor"
)

# Which `algorithm` the gradients of a forward op ask for: 0 auto, 1 direct, 2 Winograd.
FORWARD_OPS = {"im2col": 1, "matmul": 1, "winograd": 2, "conv2d": 0}
# As in csrc/binding/ops_table.def.
SCHEMAS = {
    **{name: FORWARD for name in FORWARD_OPS},
    "conv2d_input": INPUT,
    "conv2d_weight": WEIGHT,
    # Weights packed ahead of the calls, and conv2d on them: for inference, without gradients.
    "pack_weight": PACK,
    "conv2d_packed": PACKED,
}
# The same by aten, where the extension sends the dtypes that it does not compute.
ATEN_SCHEMAS = {"_aten_conv2d": FORWARD, "_aten_conv2d_input": INPUT, "_aten_conv2d_weight": WEIGHT}

# Of a convolution that autograd has recorded in C++, the gradients where these are differentiated themselves.
RECORDED = (
    "(Tensor grad, Tensor input, Tensor weight, int[] stride, int[] padding, int[] dilation, int[] output_padding, "
    "int groups, bool need_input, bool need_weight, bool need_bias) -> (Tensor, Tensor, Tensor)"
)

library = torch.library.Library("nhwc_conv", "FRAGMENT" if _extension.available else "DEF")
for _name, _schema in (ATEN_SCHEMAS if _extension.available else {**SCHEMAS, **ATEN_SCHEMAS}).items():
    library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
if _extension.available:
    library.define("_convolution_backward" + RECORDED)

ops: Ops = torch.ops.nhwc_conv  # type: ignore[assignment]  # its attributes are made when they are asked for


def _defaults(name: str) -> tuple[Any, ...]:
    values = (argument.default_value for argument in getattr(ops, name).default._schema.arguments)
    return tuple(tuple(v) if isinstance(v, list) else v for v in values)


# By op, of each of its arguments in order: None where there is none; a pair where one number stands for both axes.
DEFAULTS = {name: _defaults(name) for name in (*SCHEMAS, *ATEN_SCHEMAS)}


def completed(name: str, function: Callable[..., T]) -> Callable[..., T]:
    """`function`, which takes all arguments of an op, as a kernel: PyTorch leaves out last ones that are defaults."""
    defaults = DEFAULTS[name]

    @wraps(function)
    def call(*args: Any) -> T:
        return function(*args, *defaults[len(args) :])

    return call
