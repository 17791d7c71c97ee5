"""Euclidean norms over pixels in models converted for inference."""

import operator

import pytest
import torch
from torch import nn

import nhwc_conv
from nhwc_conv._convert.lengths import length


class Normalised(nn.Module):
    """ConvNeXt V2's global response normalisation (Woo et al., 2023) behind a convolution."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), norm
        self.gamma, self.beta = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        lengths = self.norm(x)
        return self.added(x, lengths / (lengths.mean(-1, keepdim=True) + 1e-6), self.gamma, self.beta)

    def added(self, x, n, gamma, beta):
        return gamma * (x * n) + beta + x


def converted(norm, dtype=torch.float32, model=Normalised):
    model, reports, x = model(norm).eval().to(dtype), [], torch.randn(2, 3, 9, 12, dtype=dtype)
    ours = nhwc_conv.convert(model, inference=True, example=x, report=reports.append)
    assert not reports[0].fallback and not reports[0].untraced
    with torch.no_grad():
        tolerance = {} if dtype != torch.float16 else {"rtol": 2e-2, "atol": 2e-2}
        torch.testing.assert_close(ours(x), model(x), **tolerance)
    return ours


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: x.norm(p=2, dim=(1, 2), keepdim=True),
        lambda x: torch.norm(x, 2.0, [1, 2], True),
        lambda x: torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True),
        lambda x: x.norm(2, 1, keepdim=True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_lengths(norm, dtype):
    assert "_convert_lengths_length(" in converted(norm, dtype).code


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: x.norm(p=1, dim=(1, 2), keepdim=True),
        lambda x: x.norm(dim=(1, 2), keepdim=True),  # of Frobenius
        lambda x: torch.linalg.vector_norm(x, float("inf"), dim=(1, 2), keepdim=True),
        lambda x: torch.linalg.vector_norm(x).view(1, 1, 1, 1).expand(1, 1, 1, 8),
        lambda x: torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float64).float(),
    ],
)
def test_other_norms_stay(norm):
    assert "lengths_length" not in converted(norm).code


def test_half_types_do_not_overflow():
    x = torch.full((1, 4, 4, 8), 1000.0, dtype=torch.float16)
    assert (
        torch.equal(length(x, (1, 2), True), x.norm(2, (1, 2), True))
        and length(x, (1, 2), True).isfinite().all()
    )


def test_gradients_at_zero_are_zero():
    x = torch.zeros(1, 4, 4, 8, requires_grad=True)
    length(x, (1, 2), True).sum().backward()
    assert not x.grad.any()


WRITTEN = {
    "Transformers": lambda x, n, gamma, beta: gamma * (x * n) + beta + x,
    "timm": lambda x, n, gamma, beta: (
        x + torch.addcmul(beta.view(1, 1, 1, -1), gamma.view(1, 1, 1, -1), x * n)
    ),
    "turned round": lambda x, n, gamma, beta: beta + (x + torch.mul(n, x) * gamma),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_made_of_a_length_is_one_pass(name, dtype):
    class Written(Normalised):
        def added(self, *terms):
            return WRITTEN[name](*terms)

    ours = converted(lambda x: x.norm(p=2, dim=(1, 2), keepdim=True), dtype, Written)
    targets = [node.target for node in ours.graph.nodes]
    steps = operator.mul, torch.mul, operator.add, torch.addcmul
    assert [targets.count(step) for step in steps] == [1, 0, 2, 1]


OTHERS = {
    "two images": lambda x, n, gamma, beta: gamma * (x * n) + beta + torch.flip(x, [1]),
    "no parameter": lambda x, n, gamma, beta: (gamma + 1) * (x * n) + beta + x,
    "a length of something else": lambda x, n, gamma, beta: gamma * (torch.flip(x, [1]) * n) + beta + x,
    "another's length": lambda x, n, gamma, beta: gamma * ((y := torch.flip(x, [1])) * n) + beta + y,
    "written to": lambda x, n, gamma, beta: gamma * (x * n, x.mul_(2))[0] + beta + x,
    "times something": lambda x, n, gamma, beta: torch.addcmul(beta, gamma, x * n, value=2) + x,
    "no summand": lambda x, n, gamma, beta: gamma * (x * n) + x,
    "a product that is read": lambda x, n, gamma, beta: (y := x * n) * gamma + beta + x - y,
    "a sum that is read": lambda x, n, gamma, beta: (y := gamma * (x * n) + beta) + x - y.tanh(),
    "another quotient": lambda x, n, gamma, beta: gamma * (x * (1 / n)) + beta + x,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_sums_stay(name):
    class Other(Normalised):
        def added(self, *terms):
            return OTHERS[name](*terms)

    ours = converted(lambda x: x.norm(p=2, dim=(1, 2), keepdim=True), model=Other)
    kept = [node for node in ours.graph.nodes if node.target is torch.addcmul]
    assert len(kept) == (name == "times something")


def test_half_types_keep_their_sums():
    ours = converted(lambda x: x.norm(p=2, dim=(1, 2), keepdim=True), torch.float16)
    assert torch.addcmul not in [node.target for node in ours.graph.nodes]
