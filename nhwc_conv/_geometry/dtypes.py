"""The dtypes that are computed here: those of csrc/kernels/storage_types.def. Others go by aten."""

import torch

# Each with the dtype of its products and sums, which packed weights have, too.
ARITHMETIC = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
COMPUTED = tuple(ARITHMETIC)
_first, _last = [str(dtype).removeprefix("torch.") for dtype in COMPUTED[:-1]], COMPUTED[-1]
NAMES = ", ".join(_first) + " or " + str(_last).removeprefix("torch.")
