"""Networks of the usual architectures, with widths and depths to choose and random weights.

The defaults are the published sizes; `SMALL` holds one of each kind that a test can afford.
"""

import torch
from torch import nn


def norm_conv(c, o, kernel, stride=1, groups=1):
    """A convolution that keeps the size at stride 1, and its BatchNorm."""
    return nn.Conv2d(c, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)): He et al., Deep residual learning for image recognition, 2015."""

    def __init__(self, body, c, o, stride):
        super().__init__()
        self.body, self.relu = body, nn.ReLU(inplace=True)
        same = stride == 1 and c == o
        self.shortcut = nn.Identity() if same else nn.Sequential(*norm_conv(c, o, 1, stride))

    def forward(self, x):
        return self.relu(self.body(x) + self.shortcut(x))


def basic(c, width, stride):
    """ResNet-18's block: two 3x3 convolutions."""
    first, second = norm_conv(c, width, 3, stride), norm_conv(width, width, 3)
    return Residual(nn.Sequential(*first, nn.ReLU(inplace=True), *second), c, width, stride), width


def bottleneck(c, width, stride):
    """ResNet-50's block: 1x1, 3x3 (which has the stride), 1x1 to four times the width."""
    layers = []
    for convolution in (norm_conv(c, width, 1), norm_conv(width, width, 3, stride)):
        layers += [*convolution, nn.ReLU(inplace=True)]
    body = nn.Sequential(*layers, *norm_conv(width, 4 * width, 1))
    return Residual(body, c, 4 * width, stride), 4 * width


def resnet(block, depths, width=64, classes=1000):
    layers = [*norm_conv(3, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    c = width
    for stage, depth in enumerate(depths):
        for i in range(depth):
            layer, c = block(c, width << stage, 2 if stage and not i else 1)
            layers.append(layer)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes))


def resnet18():
    return resnet(basic, (2, 2, 2, 2))


def resnet50():
    return resnet(bottleneck, (3, 4, 6, 3))


class InvertedResidual(nn.Module):
    """Wider, depthwise, narrower: Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, 2018."""

    def __init__(self, c, o, stride, expansion):
        super().__init__()
        hidden = c * expansion
        layers = [] if expansion == 1 else [*norm_conv(c, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [*norm_conv(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(inplace=True)]
        self.body = nn.Sequential(*layers, *norm_conv(hidden, o, 1))
        self.adds = stride == 1 and c == o

    def forward(self, x):
        return x + self.body(x) if self.adds else self.body(x)


# expansion, output channels, repetitions, stride of the first
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def mobilenet_v2(stages=MOBILENET_V2, stem=32, head=1280, classes=1000):
    layers, c = [*norm_conv(3, stem, 3, 2), nn.ReLU6(inplace=True)], stem
    for expansion, o, repetitions, stride in stages:
        for i in range(repetitions):
            layers.append(InvertedResidual(c, o, 1 if i else stride, expansion))
            c = o
    layers += [*norm_conv(c, head, 1), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(head, classes))


class SqueezeExcite(nn.Module):
    """Scales channels by what their means say: Hu et al., Squeeze-and-excitation networks, 2017."""

    def __init__(self, c, squeezed):
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(c, squeezed, 1),
            nn.SiLU(),
            nn.Conv2d(squeezed, c, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.scale(x)


class SqueezedInvertedResidual(nn.Module):
    """MobileNetV2's block with SiLU, larger kernels and squeeze and excitation to a quarter of its input channels."""

    def __init__(self, c, o, kernel, stride, expansion):
        super().__init__()
        hidden = c * expansion
        layers = [] if expansion == 1 else [*norm_conv(c, hidden, 1), nn.SiLU()]
        layers += [*norm_conv(hidden, hidden, kernel, stride, groups=hidden), nn.SiLU()]
        layers += [SqueezeExcite(hidden, max(1, c // 4)), *norm_conv(hidden, o, 1)]
        self.body, self.adds = nn.Sequential(*layers), stride == 1 and c == o

    def forward(self, x):
        return x + self.body(x) if self.adds else self.body(x)


# expansion, kernel, output channels, repetitions, stride of the first
EFFICIENTNET_B0 = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)  # fmt: skip


def efficientnet_b0(stages=EFFICIENTNET_B0, stem=32, head=1280, classes=1000):
    """Tan and Le, EfficientNet: rethinking model scaling for convolutional neural networks, 2019."""
    layers, c = [*norm_conv(3, stem, 3, 2), nn.SiLU()], stem
    for expansion, kernel, o, repetitions, stride in stages:
        for i in range(repetitions):
            layers.append(SqueezedInvertedResidual(c, o, kernel, 1 if i else stride, expansion))
            c = o
    layers += [*norm_conv(c, head, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(head, classes))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of an NCHW image."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, then two layers on each pixel: Liu et al., A ConvNet for the 2020s, 2022."""

    def __init__(self, c):
        super().__init__()
        self.depthwise = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.pixelwise = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))
        self.scale = nn.Parameter(torch.full((c,), 0.1))

    def forward(self, x):
        return x + (self.scale * self.pixelwise(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def convnext(depths=(3, 3, 9, 3), widths=(96, 192, 384, 768), classes=1000):
    layers, c = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0])], widths[0]
    for depth, width in zip(depths, widths, strict=True):
        layers += [] if width == c else [ChannelNorm(c), nn.Conv2d(c, width, 2, 2)]
        layers += [ConvNeXtBlock(width) for _ in range(depth)]
        c = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(c), nn.Linear(c, classes)
    )


class UNet(nn.Module):
    """Down, up, and across at every size: Ronneberger et al., U-Net, 2015; with padding and BatchNorm."""

    def __init__(self, widths=(64, 128, 256, 512, 1024), channels=3, classes=2):
        super().__init__()
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        c = channels
        for width in widths:
            self.down.append(self.twice(c, width))
            c = width
        for width in widths[-2::-1]:
            self.up.append(nn.ConvTranspose2d(c, width, 2, 2))
            self.join.append(self.twice(2 * width, width))
            c = width
        self.head, self.pool = nn.Conv2d(c, classes, 1), nn.MaxPool2d(2)

    @staticmethod
    def twice(c, o):
        first, second = norm_conv(c, o, 3), norm_conv(o, o, 3)
        return nn.Sequential(*first, nn.ReLU(inplace=True), *second, nn.ReLU(inplace=True))

    def forward(self, x):
        across = []
        for i, down in enumerate(self.down):
            x = down(self.pool(x) if i else x)
            across.append(x)
        for up, join, skipped in zip(self.up, self.join, across[-2::-1], strict=True):
            x = join(torch.cat([skipped, up(x)], 1))
        return self.head(x)


class AddsInput(nn.Sequential):
    """x + body(x)"""

    def forward(self, x):
        return x + super().forward(x)


def edsr(blocks=16, width=64, scale=2):
    """An image of `scale` times the size: Lim et al., Enhanced deep residual networks, 2017; their small baseline."""

    def conv(c, o):
        return nn.Conv2d(c, o, 3, padding=1)

    body = [AddsInput(conv(width, width), nn.ReLU(inplace=True), conv(width, width)) for _ in range(blocks)]
    larger = conv(width, scale**2 * width), nn.PixelShuffle(scale), conv(width, 3)
    return nn.Sequential(conv(3, width), AddsInput(*body, conv(width, width)), *larger)


SMALL = {
    "resnet_basic": lambda: resnet(basic, (1, 1, 1), width=8, classes=5),
    "resnet_bottleneck": lambda: resnet(bottleneck, (1, 2), width=8, classes=5),
    "mobilenet_v2": lambda: mobilenet_v2(
        ((1, 8, 1, 1), (6, 8, 2, 2), (4, 12, 1, 2)), stem=8, head=24, classes=5
    ),
    "convnext": lambda: convnext((1, 1), (8, 16), classes=5),
    "u_net": lambda: UNet((8, 12, 16)),
    "efficientnet": lambda: efficientnet_b0(((1, 3, 8, 1, 1), (6, 5, 12, 2, 2)), stem=8, head=24, classes=5),
    "edsr": lambda: edsr(blocks=2, width=8),
}


def as_trained(model):
    """Gives every BatchNorm statistics, scales and shifts as after some training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, least, most in (
                (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2),
                (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
            ):  # fmt: skip
                if tensor is not None:
                    nn.init.uniform_(tensor, least, most)
    return model


def make(name, dtype=torch.float64):
    """A network of SMALL, the same weights every time, and a batch for it."""
    torch.manual_seed(0)
    return as_trained(SMALL[name]()).to(dtype), torch.randn(4, 3, 32, 40, dtype=torch.float64).to(dtype)
