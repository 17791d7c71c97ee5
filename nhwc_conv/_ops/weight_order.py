"""The dimensions of weights: HWIO here, OIHW in torch. `weight.permute(HWIO)` of an OIHW weight is HWIO."""

from torch import Tensor

HWIO, OIHW = (2, 3, 1, 0), (3, 2, 0, 1)
# By the number of dimensions: of signals it is [K, C/groups, O] here, and [O, C/groups, K] in torch.
OURS = {3: (2, 1, 0), 4: HWIO}
TORCHS = {3: (2, 1, 0), 4: OIHW}


def hwio_size(weight: Tensor, oihw: bool) -> tuple[int, ...]:
    """The size of a weight as [KH, KW, C/groups, O]."""
    shape = weight.shape
    return (shape[2], shape[3], shape[1], shape[0]) if oihw else shape


def in_hwio(weight: Tensor, oihw: bool) -> Tensor:
    """`weight`, which is OIHW where `oihw` says so, as HWIO."""
    return weight.permute(HWIO) if oihw and weight.dim() == 4 else weight
