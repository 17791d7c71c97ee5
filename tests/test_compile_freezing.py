"""torch.compile(model, backend="nhwc_conv") with torch._inductor.config.freezing: weights packed once, beforehand."""

import re

import pytest
import torch
import torch.nn.functional as F
from spy import PACKED, Spy
from torch import nn
from torch._inductor import config
from torch._inductor.utils import run_and_get_code

import nhwc_conv
from nhwc_conv._compile import constants_of

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

# Without a C++ compiler: networks in channels_last that leave it nothing to do, biases too long to stand in its code.
C = 16


@pytest.fixture(autouse=True)
def freezing():
    torch._dynamo.reset()
    with config.patch(freezing=True, cpp_cache_precompile_headers=False):
        yield


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(C, C, 3, padding=1),
        nn.Conv2d(C, C, 3, padding="same", groups=C),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(C, 2 * C, 3, stride=2, groups=4)),
        nn.Conv2d(2 * C, C, 1, bias=False),
    ).to(torch.float64, memory_format=torch.channels_last)  # fmt: skip


def layer(cls=nn.Conv2d, bias=True):
    return cls(C, C, 3, bias=bias).to(torch.float64, memory_format=torch.channels_last)


def image():
    x = torch.randn(2, C, 9, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def compile(model, **options):
    return torch.compile(model, backend=nhwc_conv.compile_backend, fullgraph=True, **options)


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs)
    assert ours.stride() == theirs.stride()


@pytest.mark.parametrize("dynamic", (False, True))
def test_weights_are_packed_constants(dynamic):
    model, x = network(), image()
    compiled = compile(model, dynamic=dynamic)
    with torch.no_grad():
        ours, (code,) = run_and_get_code(compiled, x)
        assert_close(ours, model(x))
        with torch.profiler.profile() as profile:
            compiled(x)
    assert code.count("conv2d_packed.default(") == 4
    assert "pack_weight" not in code and "cpp_fused" not in code
    assert len(set(re.findall(r"\b_frozen_param\d+", code))) == 4 + 3  # and biases
    calls = {e.key: e.count for e in profile.key_averages()}
    assert calls["nhwc_conv::conv2d_packed"] == 4 and "nhwc_conv::pack_weight" not in calls


def test_winograd_is_packed_where_it_may_run():
    model, x, spy = network(), image(), Spy(freezing=True)
    with torch.no_grad():
        torch.compile(model, backend=spy)(x)
    assert spy.packed == [(1, True), (C, True), (4, False), (1, True)]


def recorded(model):
    def forward(x):
        with torch.enable_grad():
            return model(x)

    return forward


def test_where_gradients_are_asked_for():
    model, x = layer(), image()
    for function, mode in ((model, torch.enable_grad), (recorded(model), torch.no_grad)):
        with mode():
            assert_close(compile(function)(x), function(x))
    compile(model)(x).sum().backward()
    assert model.weight.grad is not None


def test_weights_that_are_no_constants():
    w = torch.randn(C, C, 3, 3, dtype=torch.float64)
    functions = {
        "an argument": lambda x, w: F.conv2d(x, w),
        "of an argument": lambda x, w: F.conv2d(x, model.weight * w),
        "made in the graph": lambda x, w: F.conv2d(x, torch.ones(C, C, 3, 3, dtype=torch.float64)),
    }
    model, x = layer(), image()
    for name, function in functions.items():
        spy = Spy(freezing=True)
        with torch.no_grad():
            torch.testing.assert_close(torch.compile(function, backend=spy)(x, w), function(x, w), msg=name)
        assert spy.ops[PACKED] == 0 and spy.rewritten == 1, name


class Decaying(nn.Conv2d):
    def forward(self, x):
        self.weight.mul_(0.5)
        return super().forward(x)


def test_a_weight_that_the_model_itself_changes():
    """Inductor leaves it an input, so that it is packed by each call."""
    ours, theirs = (layer(Decaying, bias=False) for _ in "ab")
    theirs.load_state_dict(ours.state_dict())
    compiled, x = compile(ours), image()
    with torch.no_grad():
        for _ in range(3):
            assert_close(compiled(x), theirs(x))


def test_what_is_frozen_until_it_is_compiled_anew():
    """PyTorch's rule: other parameters are seen, other values are not."""
    model, x = layer(bias=False), image()
    compiled = compile(model)
    with torch.no_grad():
        before = compiled(x)
        model.load_state_dict({name: p + 1 for name, p in model.state_dict().items()})
        assert torch.equal(compiled(x), before)
        model.weight = nn.Parameter(model.weight.clone())
        assert_close(compiled(x), model(x))
        model.weight.zero_()
        torch._dynamo.reset()
        assert_close(compiled(x), model(x))


def test_two_models_have_weights_of_their_own():
    models, x = [layer() for _ in "ab"], image()
    with torch.no_grad():
        for model in models:
            assert_close(compile(model)(x), model(x))


def test_an_option_that_comes_too_late():
    model, x = layer(), image()
    compiled = compile(model, options={"freezing": True})
    with config.patch(freezing=False):
        compiled(x)  # with gradients, where nothing would be frozen anyway: no warning
    with config.patch(freezing=False), torch.no_grad():
        with pytest.warns(UserWarning, match="torch._inductor.config.freezing = True"):
            compiled(x)
        model.weight.zero_()
        assert_close(compiled(x), model(x))


def test_which_nodes_are_constants():
    graph = torch.fx.Graph()
    x, w, g = graph.placeholder("x"), graph.get_attr("w"), graph.get_attr("g")
    ones = graph.call_function(torch.ones, (3,))
    product, scaled = graph.call_method("mul", (w, g)), graph.call_function(torch.mul, (w, ones))
    graph.output((graph.call_function(torch.mul, (product, x)), scaled))
    assert constants_of(graph) == {w, g, product}
