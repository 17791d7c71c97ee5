"""export.py FOLDER: a converted model, compiled ahead of time for C++, with an input and the output that it gives."""

import sys
from pathlib import Path

import torch
from torch import nn

import nhwc_conv


def block(inputs, outputs, **options):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, **options), nn.BatchNorm2d(outputs), nn.ReLU())


folder = Path(sys.argv[1])
torch.manual_seed(0)
model = nn.Sequential(
    block(3, 32, stride=2), block(32, 64, padding=1), block(64, 64, padding=1, groups=64),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
).eval()  # fmt: skip
x = torch.randn(4, 3, 64, 64)
model = nhwc_conv.convert(model, inference=True, example=x)
sizes = {0: torch.export.Dim("batch", min=1)}
with torch.no_grad():
    program = torch.export.export(model, (torch.randn(2, 3, 64, 64),), dynamic_shapes=(sizes,))
    torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "model.pt2"))
    torch.save(x, folder / "input.pt")
    torch.save(model(x), folder / "output.pt")
