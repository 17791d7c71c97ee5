"""The named layers that are timed, as cases of the tests: the notebook's, ResNet-50's, grouped, depthwise ones."""

import sys
from pathlib import Path

# The bench verifies against the oracle of the tests and describes a layer as they do. The package stands beside them.
ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from cases import Case  # noqa: E402


def layer(size, c, o, kernel, stride=1, batch=1, groups=1):
    """A square layer with the padding that keeps its size at stride 1."""
    name = f"{size}_{c}-{o}_{kernel}x{kernel}"
    name = (f"{batch}x" if batch > 1 else "") + name + (f"_s{stride}" if stride > 1 else "")
    suffix = "" if groups == 1 else "_depthwise" if groups == c else f"_groups{groups}"
    return Case(
        name + suffix,
        (batch, size, size, c),
        (kernel, kernel, c // groups, o),
        stride=stride,
        padding=kernel // 2,
        groups=groups,
    )


LAYERS = [
    Case("notebook", (10, 32, 32, 8), (3, 3, 8, 16)),
    layer(224, 3, 64, 7, stride=2),
    # ResNet-50's 3x3 layers
    layer(56, 64, 64, 3),
    layer(56, 128, 128, 3, stride=2),
    layer(28, 128, 128, 3),
    layer(28, 256, 256, 3, stride=2),
    layer(14, 256, 256, 3),
    layer(14, 512, 512, 3, stride=2),
    layer(7, 512, 512, 3),
    # its 1x1 layers
    layer(56, 64, 64, 1),
    layer(56, 64, 256, 1),
    layer(56, 256, 64, 1),
    layer(56, 256, 128, 1),
    layer(56, 256, 512, 1, stride=2),
    layer(28, 128, 512, 1),
    layer(28, 512, 128, 1),
    layer(28, 512, 256, 1),
    layer(28, 512, 1024, 1, stride=2),
    layer(14, 256, 1024, 1),
    layer(14, 1024, 256, 1),
    layer(14, 1024, 512, 1),
    layer(14, 1024, 2048, 1, stride=2),
    layer(7, 512, 2048, 1),
    layer(7, 2048, 512, 1),
    # batches
    layer(56, 64, 64, 3, batch=8),
    layer(28, 128, 128, 3, batch=8),
    layer(14, 256, 256, 3, batch=8),
    layer(7, 512, 512, 3, batch=8),
    # ResNeXt-50's grouped layers
    layer(56, 128, 128, 3, groups=32),
    layer(28, 256, 256, 3, groups=32),
    # depthwise
    layer(56, 128, 128, 3, groups=128),
    layer(14, 512, 512, 3, groups=512),
    layer(56, 128, 128, 7, groups=128),
    # where others fall off a cliff
    layer(28, 32, 32, 15),
    layer(28, 128, 128, 31, groups=128),
    Case("patches_224_3-768_16x16_s16", (1, 224, 224, 3), (16, 16, 3, 768), stride=16),
    layer(64, 64, 3, 3),
]


def flops(case, pass_):
    """Multiplications and additions by the formula, padding taps included; a gradient costs one forward."""
    n, h, w, _ = case.x
    kh, kw, c_per_group, o = case.w
    oh = (h + 2 * case.padding - kh) // case.stride + 1
    ow = (w + 2 * case.padding - kw) // case.stride + 1
    return 2 * n * oh * ow * o * kh * kw * c_per_group * (3 if pass_ == "train" else 1)
