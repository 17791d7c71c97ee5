"""One convolution by name: its arguments, and the tensors to compute it with."""

import zlib
from dataclasses import dataclass

import torch

DTYPES = [torch.float32, torch.float64]
HALVES = [torch.bfloat16, torch.float16]
COMPUTED = [*DTYPES, *HALVES]


@dataclass(frozen=True)
class Case:
    """Arguments of one convolution; `x` is [N, H, W, C] or [H, W, C], `w` is [KH, KW, C/groups, O]."""

    name: str
    x: tuple[int, ...]
    w: tuple[int, int, int, int]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    auto_pad: int = 0
    bias: bool = False

    @property
    def geometry(self) -> dict:
        """The keyword arguments that all ops share."""
        names = ("stride", "padding", "dilation", "groups", "auto_pad")
        return {name: getattr(self, name) for name in names}

    @property
    def winograd_applies(self) -> bool:
        ones = ((1, 1), 1)
        return self.w[:2] == (3, 3) and self.stride in ones and self.dilation in ones

    def tensors(self, dtype, integers=False, device="cpu"):
        """x, w and bias (or None), the same ones for a name every time.

        Integers are small enough for every sum of products in the table to be exact in float32.
        """
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))

        def draw(shape):
            if integers:
                return torch.randint(-4, 5, shape, generator=generator).to(device, dtype)
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

        return draw(self.x), draw(self.w), draw(self.w[3:]) if self.bias else None

    def grad_like(self, out, integers=False):
        """An output gradient for `out`, again fixed by the name."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + 1)
        if integers:
            return torch.randint(-4, 5, out.shape, generator=generator).to(out.dtype)
        return torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
