"""A script: our ops on a device that this package has never heard of, by aten convolution, with autocast.

The device "toy" holds CPU tensors and computes on them; it knows aten's ops and no others.
"""

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_map

import nhwc_conv

used = set()


class Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


class Toy(torch.Tensor):
    @staticmethod
    def __new__(cls, data):
        t = torch._C._acc.create_empty_tensor(data.shape, data.dtype)
        t.__class__ = cls
        t.data_on_cpu = data.detach().contiguous()
        return t

    def __init__(self, data):
        pass


def on_cpu(op, *args, **kwargs):
    used.add(op.name())
    args, kwargs = tree_map(lambda t: t.data_on_cpu if isinstance(t, Toy) else t, (args, kwargs))
    if kwargs.get("device") is not None:
        kwargs["device"] = "cpu"
    if op is torch.ops.aten.convolution_overrideable.default:
        op = torch.ops.aten.convolution.default
    elif op is torch.ops.aten.convolution_backward_overrideable.default:
        op, args = torch.ops.aten.convolution_backward.default, (*args[:3], None, *args[3:])
    return tree_map(lambda t: Toy(t) if isinstance(t, torch.Tensor) else t, op(*args, **kwargs))


def copy_from(source, target, non_blocking=False):
    target.data_on_cpu.copy_(source.data_on_cpu)
    return target


backend_registration._setup_privateuseone_for_python_backend("toy", backend_module=Module())
everything = torch.library.Library("_", "IMPL")
everything.fallback(on_cpu, "PrivateUse1")
everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
aten = torch.library.Library("aten", "IMPL")
aten.impl("_copy_from", copy_from, "PrivateUse1")
for op in (torch.ops.aten.convolution_overrideable, torch.ops.aten.convolution_backward_overrideable):
    aten.impl(op.__name__, lambda *a, op=op.default, **k: on_cpu(op, *a, **k), "PrivateUse1")
nhwc_conv._ops.autograd.PLAIN += (Toy,)  # tensors of a real device are no subclass


def gradients(function, leaves, to=lambda t: t):
    leaves = [to(t).requires_grad_() for t in leaves]
    out = function(*leaves)
    grad = torch.arange(float(out.numel())).view(out.shape).cos().to(out.dtype)
    return [out, *torch.autograd.grad(out, leaves, to(grad))]


torch.manual_seed(0)
tensors = [torch.randn(s, dtype=torch.float64) for s in ((2, 6, 7, 4), (3, 3, 2, 6), (6,))]
steps = dict(stride=2, padding=(1, 2), groups=2)
for function, leaves in (
    (lambda *ts: nhwc_conv.conv2d(*ts, **steps), tensors),
    (lambda *ts: torch.ops.nhwc_conv.im2col(*ts, **steps), tensors),
):
    for there, here in zip(gradients(function, leaves, Toy), gradients(function, leaves), strict=True):
        assert there.device.type == "toy" and there.shape == here.shape and there.stride() == here.stride()
        torch.testing.assert_close(there.data_on_cpu, here)
assert {"aten::convolution_overrideable", "aten::convolution_backward_overrideable"} <= used

halves = [t.float() for t in tensors]
with torch.autocast("toy", torch.bfloat16):
    out, *grads = gradients(lambda *ts: nhwc_conv.conv2d(*ts, **steps), halves, Toy)
assert out.dtype == torch.bfloat16 and all(g.dtype == torch.float32 for g in grads)
print("same")
