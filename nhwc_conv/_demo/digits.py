"""A small network learns the digits of scikit-learn, once on NHWCConv2d and once on torch.nn.Conv2d."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..nn import NHWCConv2d

EPOCHS, BATCH, TEST_IMAGES = 12, 64, 360
LEAST_ACCURACY, MOST_IMAGES_APART = 0.97, 2


class Digits(NamedTuple):
    """Images [N, 8, 8, 1] in [0, 1], and labels."""

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def load(seed: int = 0) -> Digits:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("The demo's digits come with scikit-learn: pip install scikit-learn") from error
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    x = torch.from_numpy(images).float().view(-1, 8, 8, 1)[order] / 16
    y = torch.from_numpy(labels).long()[order]
    return Digits(x[TEST_IMAGES:], y[TEST_IMAGES:], x[:TEST_IMAGES], y[:TEST_IMAGES])


class Network(nn.Module):
    """Three convolutions and a linear layer; NHWC tensors outside, whatever the layers take inside."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.nhwc = layer is NHWCConv2d
        self.convolutions = nn.Sequential(
            layer(1, 16, 3, padding=1), nn.ReLU(),
            layer(16, 32, 3, padding=1), nn.ReLU(),
            layer(32, 32, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.linear = nn.Linear(4 * 4 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.nhwc:
            x = self.convolutions(x)
        else:
            x = self.convolutions(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.linear(x.flatten(1))


class Training:
    """One network with its optimiser; equal seeds give equal initial values and equal batches."""

    def __init__(self, layer: Any, data: Digits, epochs: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.network, self.data, self.seconds = Network(layer), data, 0.0
        self.order = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        steps = epochs * -(-len(data.y) // BATCH)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 5e-3, total_steps=steps)

    def epoch(self) -> float:
        """The mean loss."""
        start, losses = time.perf_counter(), []
        for batch in torch.randperm(len(self.data.y), generator=self.order).split(BATCH):
            loss = F.cross_entropy(self.network(self.data.x[batch]), self.data.y[batch])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.item() * len(batch))
        self.seconds += time.perf_counter() - start
        return sum(losses) / len(self.data.y)

    def right(self) -> int:
        """How many of the test images it reads rightly."""
        with torch.no_grad():
            return int((self.network(self.data.x_test).argmax(1) == self.data.y_test).sum())


def run(epochs: int = EPOCHS, seed: int = 0) -> list[str]:
    """Trains both, a line per epoch; returns which requirements are missed."""
    data = load(seed)
    ours, theirs = (Training(layer, data, epochs, seed) for layer in (NHWCConv2d, nn.Conv2d))
    print(f"\nscikit-learn's digits: {len(data.y)} images to learn from, {len(data.y_test)} to test with")
    for epoch in range(1, epochs + 1):
        columns = []
        for name, training in (("NHWCConv2d", ours), ("nn.Conv2d", theirs)):
            loss = training.epoch()
            columns.append(f"{name}: loss {loss:.4f}, test {training.right() / len(data.y_test):.2%}")
        print(f"epoch {epoch:2}   " + "   ".join(columns), flush=True)
    right = ours.right(), theirs.right()
    print(
        f"NHWCConv2d reads {right[0]} of {len(data.y_test)} after {ours.seconds:.2f} s of training, "
        f"nn.Conv2d {right[1]} after {theirs.seconds:.2f} s"
    )
    missed = []
    if right[0] < LEAST_ACCURACY * len(data.y_test):
        missed.append(f"test accuracy {right[0] / len(data.y_test):.2%} is under {LEAST_ACCURACY:.0%}")
    if abs(right[0] - right[1]) > MOST_IMAGES_APART:
        missed.append(f"{right[0]} and {right[1]} test images are more than {MOST_IMAGES_APART} apart")
    return missed
