"""Training in half precision reaches what float32 does: by autocast, and in float16 throughout with scaled losses."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from nhwc_conv import Conv2d

EPOCHS, BATCH, TRAINED = 12, 64, 1400


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)[order] / 16, torch.tensor(labels)[
        order
    ]


def accuracy(digits, dtype):
    """Of a network on digits that it has not seen, trained by autocast to `dtype` with weights in float32."""
    x, y = digits
    torch.manual_seed(0)
    model = nn.Sequential(
        Conv2d(1, 16, 3, padding=1), nn.ReLU(), Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        Conv2d(32, 32, 3, padding=1, groups=32), Conv2d(32, 32, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16)
    for _ in range(EPOCHS):
        for batch in torch.arange(TRAINED).split(BATCH):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                out = model(x[batch])
                assert out.dtype == dtype
                loss = F.cross_entropy(out.float(), y[batch])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return (model(x[TRAINED:]).argmax(1) == y[TRAINED:]).float().mean().item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
def test_digits_are_learnt_as_well_as_in_float32(digits, dtype):
    single = accuracy(digits, torch.float32)
    assert single > 0.95
    assert accuracy(digits, dtype) > single - 0.02
