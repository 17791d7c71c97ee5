"""torch.autocast on CPU: forward ops compute in the dtype that is active, as F.conv2d does.

torch.library.register_autocast would fix one dtype for all time.
"""

import torch
from torch._C import DispatchKey, DispatchKeySet, _ExcludeDispatchKeyGuard

from .derivatives import overload
from .schema import FORWARD_OPS, library

AUTOCAST = DispatchKeySet(DispatchKey.AutocastCPU)


def autocast_kernel(name):
    op = overload(name)

    def kernel(x, w, bias=None, *geometry):
        dtype = torch.get_autocast_dtype("cpu")
        with _ExcludeDispatchKeyGuard(AUTOCAST):
            return op(_cast(x, dtype), _cast(w, dtype), _cast(bias, dtype), *geometry)

    return kernel


def _cast(t, dtype):
    """float64, integers and complex numbers are left alone by autocast, and so are tensors elsewhere."""
    eligible = t is not None and t.is_floating_point() and t.dtype != torch.float64 and t.device.type == "cpu"
    return t.to(dtype) if eligible else t


for _name in FORWARD_OPS:
    library.impl(_name, autocast_kernel(_name), "AutocastCPU")
