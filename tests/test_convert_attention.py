"""convert(model, inference=True): masks of attention have as many dimensions as what they mask."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nhwc_conv import convert

HEADS, PIXELS, CHANNELS = 2, 12, 8


class Attention(nn.Module):
    """Over the pixels of a convolution's result, by heads where `heads`."""

    def __init__(self, mask, heads=True, by_name=True):
        super().__init__()
        self.conv, self.heads, self.by_name = nn.Conv2d(3, CHANNELS, 1), heads, by_name
        if mask is not None:
            self.register_buffer("mask", mask)
        else:
            self.mask = None

    def forward(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        if self.heads:
            tokens = tokens.unflatten(2, (HEADS, -1)).transpose(1, 2)
        if self.by_name:
            return F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=self.mask, scale=0.3)
        return F.scaled_dot_product_attention(tokens, tokens, tokens, self.mask, 0.0, False)


def some(*shape):
    return torch.linspace(-2, 2, PIXELS * PIXELS * HEADS)[: torch.Size(shape).numel()].reshape(shape)


def without_a_row(mask):
    mask[0, 3] = float("-inf")
    return mask


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(
    "mask, heads, dimensions",
    [
        (some(HEADS, PIXELS, PIXELS), True, 4),
        (without_a_row(some(HEADS, PIXELS, PIXELS)), True, 4),
        (some(HEADS, PIXELS, PIXELS) > 0, True, 4),
        (some(1, PIXELS, PIXELS), True, 4),
        (some(1, HEADS, PIXELS, PIXELS), True, 4),
        (some(PIXELS, PIXELS), True, 2),
        (some(1, PIXELS, PIXELS), False, 3),
        (None, True, None),
    ],
    ids=[
        "heads",
        "nothing to attend to",
        "of booleans",
        "one head",
        "whole",
        "matrix",
        "no heads",
        "no mask",
    ],
)
def test_dimensions_of_masks(mask, heads, dimensions, by_name, monkeypatch):
    model = Attention(mask, heads, by_name).eval()
    x, seen = torch.randn(2, 3, 3, 4), []
    ours, compute = convert(model, inference=True, example=x), F.scaled_dot_product_attention

    def spy(query, key, value, attn_mask=None, *args, **kwargs):
        seen.append(attn_mask if attn_mask is None else attn_mask.dim())
        return compute(query, key, value, attn_mask, *args, **kwargs)

    monkeypatch.setattr("nhwc_conv._convert.attention.ATTENTION", spy)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))
    assert seen == ([] if mask is None else [dimensions])
