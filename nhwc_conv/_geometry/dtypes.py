"""The dtypes that are computed here: those of csrc/kernels/storage_types.def. Others go by aten."""

import torch

COMPUTED = (torch.float32, torch.float64)
NAMES = " or ".join(str(dtype).removeprefix("torch.") for dtype in COMPUTED)
