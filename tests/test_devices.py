"""Devices other than the CPU: everything by aten convolution in channels_last; meta tensors by the fakes."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d, NHWCConvTranspose2d

ops = torch.ops.nhwc_conv


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices written in Python",
)
def test_a_device_that_knows_only_aten():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "tests" / "toy_device.py")],
        capture_output=True, text=True, cwd=ROOT, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "same\n", done.stderr


@pytest.mark.parametrize("key", ["CUDA", "MPS", "XPU", "PrivateUse1"])
def test_other_devices_have_no_kernel_of_their_own(key):
    """So that the algorithm in Python, which asks aten, is what runs there; autocast has one for each."""
    for name in (*nhwc_conv._ops.FORWARD_OPS, "conv2d_input", "conv2d_weight"):
        assert not torch._C._dispatch_has_kernel_for_dispatch_key(f"nhwc_conv::{name}", key)
        composite = "CompositeExplicitAutograd"
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"nhwc_conv::{name}", composite)
    for name in nhwc_conv._ops.FORWARD_OPS:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"nhwc_conv::{name}", f"Autocast{key}")


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append((func, args))
        return func(*args, **(kwargs or {}))


def test_aten_sees_channels_last_images_and_oihw_weights():
    """The image is a view of the NHWC tensor; no copy of it is made on the way in or out."""
    x, w = torch.randn(2, 6, 7, 4), torch.randn(3, 3, 4, 8)
    with Calls() as calls:
        out = nhwc_conv._ops.aten.aten_conv2d(x, w, None, (2, 2), (1, 1), (1, 1), 1, 0)
    ((image, kernel, *_),) = (args for func, args in calls.seen if func is torch.ops.aten.convolution.default)
    assert image.data_ptr() == x.data_ptr() and image.is_contiguous(memory_format=torch.channels_last)
    assert kernel.is_contiguous() and kernel.shape == (8, 4, 3, 3)
    copies = [func for func, args in calls.seen if "clone" in str(func) and args[0].shape != kernel.shape]
    assert not copies and out.is_contiguous()


@pytest.mark.parametrize("layer", [
    lambda: Conv2d(4, 8, 3, padding=1), lambda: NHWCConv2d(4, 8, 3, stride=2, padding="same"),
    lambda: NHWCConvTranspose2d(4, 8, 3, stride=2, output_padding=1),
])  # fmt: skip
def test_layers_on_meta(layer):
    """Shapes and strides of the real thing, forward and backward, and built there as torch.nn's are.

    But for the strides of NCHW and OIHW gradients: elsewhere they are those of views.
    """
    real = layer()
    x = torch.randn(2, 4, 6, 7) if isinstance(real, nn.Conv2d) else torch.randn(2, 6, 7, 4)
    with torch.device("meta"):
        built = layer()
    for m in (layer().to("meta"), built):
        assert m.weight.device.type == "meta"
        described = []
        for model, image in ((real, x), (m, x.to("meta"))):
            image.requires_grad_()
            out = model(image)
            leaves = image, *model.parameters()
            grads = torch.autograd.grad(out.sum(), leaves)
            if isinstance(model, nn.Conv2d):
                grads = [grad.contiguous() for grad in grads]
            described.append([(t.shape, t.stride(), t.dtype) for t in (out, *grads)])
        assert described[0] == described[1]
    assert built.to_empty(device="cpu")(x).device.type == "cpu"
