"""Channel shuffles that models write out."""

import pytest
import torch
from torch import nn

import nhwc_conv
from nhwc_conv.nn.images import ChannelShuffle

MEMORY = "channels_last from the first convolutions to the results"


def by_size(x):
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def by_shape(x):
    n, c, h, w = x.shape
    x = torch.transpose(x.reshape(n, 3, c // 3, h, w), 2, 1)
    return x.reshape(n, -1, h, w)


def by_permuting(x):
    sizes = x.size(0), 4, -1, x.size(2), x.size(-1)
    return x.view(sizes).permute(0, 2, 1, 3, 4).contiguous().view(x.size(0), -1, x.size(2), x.size(3))


def other_dimensions(x):
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h, w).transpose(0, 1).contiguous().view(n, c, h, w)


def another_size(x):
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, w, h)


def rows_for_groups(x):
    n, c, h, w = x.size()
    return x.view(n, 2, h, c // 2, w).transpose(1, 2).contiguous().view(n, c, h, w)


def seen_elsewhere(x):
    n, c, h, w = x.size()
    groups = x.view(n, 2, c // 2, h, w)
    return groups.transpose(1, 2).contiguous().view(n, c, h, w) + groups.sum()


def in_another_order(x):
    n, c, h, w = x.size()
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2)
    return x.contiguous(memory_format=torch.channels_last_3d).reshape(n, c, h, w)


class Model(nn.Module):
    def __init__(self, shuffle):
        super().__init__()
        self.a, self.b, self.shuffle = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 5, 1), shuffle

    def forward(self, x):
        return self.b(self.shuffle(self.a(x)))


def converted(shuffle):
    torch.manual_seed(0)
    model, x, reports = Model(shuffle).eval(), torch.randn(2, 3, 8, 8), []
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    shuffles = [m for m in ours.modules() if isinstance(m, ChannelShuffle)]
    with torch.no_grad():
        for images in (x, x.contiguous(memory_format=torch.channels_last), torch.randn(1, 3, 8, 8)):
            torch.testing.assert_close(ours(images), model(images))
    return len(shuffles), reports[0].memory


@pytest.mark.parametrize("shuffle", [by_size, by_shape, by_permuting])
def test_shuffles_have_a_name(shuffle):
    assert converted(shuffle) == (1, MEMORY)


@pytest.mark.parametrize(
    "other", [other_dimensions, another_size, rows_for_groups, seen_elsewhere, in_another_order]
)
def test_what_is_none(other):
    assert converted(other)[0] == 0
