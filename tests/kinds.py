"""The kinds of convolution that PyTorch has samples of, a row for each: its function and layer, and ours."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from samples import in_order, op_info
from torch.testing._internal.common_modules import module_db

import nhwc_conv
from nhwc_conv.nn.drop_in import conv2d_nchw
from nhwc_conv.nn.drop_in_1d import conv1d_ncl
from nhwc_conv.nn.drop_in_transposed import conv_transpose1d_ncl, conv_transpose2d_nchw


@dataclass(frozen=True)
class Kind:
    layer: str  # the name of torch.nn's and ours
    function: Callable  # torch's
    drop_in: Callable  # what our layer computes by; every argument is given
    functional: Callable | None = None  # of channels-last tensors
    own_words: bool = False  # the drop-in's errors are not torch's to the letter

    @property
    def name(self):
        return self.function.__name__

    @property
    def n(self):
        """How many dimensions the images have."""
        return int(self.layer[-2])

    @property
    def transposed(self):
        return "Transpose" in self.layer

    @property
    def layers(self):
        """Ours and torch's."""
        return getattr(nhwc_conv, self.layer), getattr(torch.nn, self.layer)

    @property
    def info(self):
        return op_info(f"nn.functional.{self.name}")

    @property
    def module_info(self):
        (info,) = (info for info in module_db if info.module_cls is self.layers[1])
        return info

    @property
    def dtypes(self):
        return in_order(self.info.supported_dtypes("cpu"))

    @property
    def differentiable(self):
        return in_order(self.info.supported_backward_dtypes("cpu"))

    @property
    def defaults(self):
        """Of the arguments after the bias, in torch's order."""
        if self.transposed:
            return dict(stride=1, padding=0, output_padding=0, groups=1, dilation=1)
        return dict(stride=1, padding=0, dilation=1, groups=1)

    @property
    def forms(self):
        """What computes it, with the layouts and defaults of torch's function."""

        def drop_in(x, w, bias=None, **kwargs):
            return self.drop_in(x, w, bias, **self.defaults | kwargs)

        def functional(x, w, bias=None, **kwargs):
            first = 1 - w.dim()  # of the dimensions that are not the batch
            w = w.permute(*range(2, w.dim()), 1, 0)
            return self.functional(x.movedim(first, -1), w, bias, **kwargs).movedim(-1, first)

        return [drop_in, functional] if self.functional else [drop_in]

    def lengths(self, x, w, out, groups=1):
        """Of the sums in the result, dx, dw, dbias, and in the second gradients for x, w and the output gradient."""
        forward, dx, channels = w[0].numel(), w[:, 0].numel() // groups, w.shape[0]
        dw = dbias = out.numel() // channels
        if self.transposed:
            forward, dx = dx, forward
            dw, dbias = x.numel() // channels, out.numel() // (w.shape[1] * groups)
        return forward + 1, dx, dw, dbias, dx, dw, 2 * (forward + 1)


KINDS = [
    Kind("Conv1d", F.conv1d, conv1d_ncl, nhwc_conv.conv1d),
    Kind("Conv2d", F.conv2d, conv2d_nchw, nhwc_conv.conv2d, own_words=True),
    Kind("ConvTranspose1d", F.conv_transpose1d, conv_transpose1d_ncl, nhwc_conv.conv_transpose1d),
    Kind("ConvTranspose2d", F.conv_transpose2d, conv_transpose2d_nchw, nhwc_conv.conv_transpose2d),
]
FORMS = [(kind, form) for kind in KINDS for form in kind.forms]


def parametrize(names, rows):
    """Tests named by the kind, the form and the dtype."""

    def name(value):
        if isinstance(value, torch.Tensor):
            value = list(value.shape)
        return getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)

    ids = ["-".join(map(name, row)).replace("torch.", "") for row in rows]
    return pytest.mark.parametrize(names, rows, ids=ids)
