"""Models that ask tensors for their device or dtype, and what they keep by it."""

import copy
import pickle

import pytest
import torch
from torch import nn

import nhwc_conv
from nhwc_conv._convert.kinds import check_kind
from nhwc_conv.nn.program import Program


class Caching(nn.Module):
    """Keeps what it computes from its parameters, by device, as layers of attention keep their biases."""

    def __init__(self):
        super().__init__()
        self.conv, self.cache = nn.Conv2d(3, 4, 1), {"other": 1}
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x):
        key = str(x.device)
        if key not in self.cache:
            self.cache[key] = self.scale.exp()
        return self.conv(x) * self.cache[key]


class Remembering(nn.Module):
    """Keeps what it has seen."""

    def __init__(self):
        super().__init__()
        self.conv, self.seen = nn.Conv2d(3, 4, 1), []

    def forward(self, x):
        self.seen.append(x)
        return self.conv(x)


class Branching(nn.Module):
    """Computes in float32 at least."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x, exponent=None):
        x = self.conv(x)
        dtype = x.dtype
        if dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        x = torch.relu(x).to(dtype)
        return self.last(x if exponent is None else x**exponent)


class OfIntegers(nn.Module):
    """What its weights are of is not what all tensors are of."""

    def __init__(self):
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 4, 1), nn.Embedding(5, 3)

    def forward(self, ids):
        x = self.table(ids) if ids.dtype == torch.int64 else ids
        return self.conv(x[:, :, None, None])


def converted(model, example):
    reports = []
    ours = nhwc_conv.convert(
        model.eval(), inference=True, example=example, strict=True, report=reports.append
    )
    with torch.no_grad():
        torch.testing.assert_close(ours(example), model(example))
    return ours, reports[0]


X = torch.randn(2, 3, 4, 5)


def test_what_a_dict_holds_by_device_is_a_constant():
    model = nn.Sequential(Caching(), nn.ReLU())
    ours, report = converted(model, X)
    assert not report.untraced and not any(
        "_tensor_constant" in name for m in model.modules() for name in vars(m)
    )
    assert list(model[0].cache) == ["other", "cpu"] and type(model[0].cache["cpu"]) is torch.Tensor
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        with torch.no_grad():
            torch.testing.assert_close(other(X), model(X))


def test_a_list_that_grows():
    model = nn.Sequential(Remembering(), nn.ReLU())
    ours, report = converted(model, X)
    assert report.untraced["0"] == "it assigns to attributes of its own"
    assert all(type(one) is torch.Tensor for one in model[0].seen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_branch_on_a_dtype(dtype):
    """Is taken as the model's own dtype takes it; tensors of another one are refused."""
    model = Branching().to(dtype)
    ours, report = converted(model, X.to(dtype))
    functions = [n.target for n in ours.graph.nodes if n.op == "call_method"]
    assert not report.untraced and functions.count("float") == (dtype == torch.bfloat16)
    with torch.no_grad():
        torch.testing.assert_close(ours(X.to(dtype)), model(X.to(dtype)))
        assert torch.equal(ours(X.to(dtype), None), ours(X.to(dtype)))
        with pytest.raises(
            TypeError, match=f"expected tensors of {dtype} on cpu, .* but got torch.float16 on cpu"
        ):
            ours.half()(X.half())
    inputs = ours.graph.find_nodes(op="placeholder")
    assert len(ours.graph.find_nodes(op="call_function", target=check_kind)) == len(inputs)


def test_who_does_not_ask_is_not_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    ours, _ = converted(model, X)
    with torch.no_grad():
        torch.testing.assert_close(ours.double()(X.double()), copy.deepcopy(model).double()(X.double()))


def test_integers_are_of_another_dtype():
    model, ids = OfIntegers(), torch.tensor([3, 1])
    ours, report = converted(model, ids)
    assert report.untraced[""]
    assert isinstance(ours.conv, nhwc_conv.Conv2d)


def test_graphs_with_a_check_are_compiled_and_exported():
    model = nn.Sequential(Branching(), nn.Conv2d(5, 3, 1))
    ours, _ = converted(model, X)
    assert sum(isinstance(m, Program) for m in ours.modules()) == 1
    with torch.no_grad():
        compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(X), model(X))
        torch.testing.assert_close(torch.export.export(ours, (X,)).module()(X), model(X))
