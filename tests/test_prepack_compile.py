"""Prepacked layers under torch.compile: conv2d_packed runs, and never with what was packed of an old weight."""

import pytest
import torch
from conftest import instruction_set
from test_prepack import CHANGES, LAYERS, assert_current, direct, double, make
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend, EagerAndRecordGraphs

import nhwc_conv

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Inductor, about itself
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]
WITHOUT_GRADIENTS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.fixture(autouse=True)
def reset():
    torch._dynamo.reset()


def ops_of(graph):
    names = [str(node.target) for node in graph.graph.nodes]
    return [name.split(".")[1] for name in names if name.startswith("nhwc_conv.")]


def graphs_of(model, x, mode=torch.no_grad):
    """The ops of ours in each graph that calls of the model compile."""
    backend = EagerAndRecordGraphs()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with mode():
        torch.testing.assert_close(compiled(x), model(x))
    return compiled, lambda: [ops_of(graph) for graph in backend.graphs]


@pytest.fixture(params=LAYERS)
def compiled(request):
    """A prepacked layer compiled by Inductor, called once."""
    layer, x = make(request.param)
    nhwc_conv.prepack(layer)
    call = torch.compile(layer, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(call(x), direct(layer, x))
    return layer, x, call


def uses_packing(layer, x, call):
    """Whether the call reads what was packed; it is NaN afterwards."""
    layer._packed.tensor[16:] = torch.nan
    return call(x).isnan().all().item()


@pytest.mark.parametrize("mode", WITHOUT_GRADIENTS.values(), ids=WITHOUT_GRADIENTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_graph_holds_the_packed_op(kind, mode):
    layer, x = make(kind)
    nhwc_conv.prepack(layer)
    _, graphs = graphs_of(layer, x, mode)
    assert graphs() == [["conv2d_packed"]]


def test_a_converted_model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding="same")
    original, x = nn.Sequential(*layers).eval(), torch.randn(2, 3, 12, 13)
    model = nhwc_conv.convert(original, inference=True, example=x)
    call, graphs = graphs_of(model, x)
    assert graphs() == [["conv2d_packed", "conv2d_packed"]]
    with torch.no_grad():
        torch.testing.assert_close(call(x), original(x))


@pytest.mark.parametrize("dropped", ["train", "to", "load"])
@pytest.mark.parametrize("kind", LAYERS)
def test_what_drops_the_packing_compiles_anew(kind, dropped):
    layer, x = make(kind)
    nhwc_conv.prepack(layer)
    call, graphs = graphs_of(layer, x)
    drop = {
        "train": lambda: layer.train().eval(),
        "to": lambda: layer.to(torch.float64),
        "load": lambda: layer.load_state_dict({k: v * 3 for k, v in layer.state_dict().items()}),
    }
    drop[dropped]()
    with torch.no_grad():
        torch.testing.assert_close(call(x), direct(layer, x))
    assert graphs() == [["conv2d_packed"], ["conv2d"]]


@pytest.mark.needs_extension
@pytest.mark.parametrize("mode", WITHOUT_GRADIENTS.values(), ids=WITHOUT_GRADIENTS)
def test_inductor_hands_over_the_weight_as_it_is(compiled, mode):
    """Its version and its address, also where the version is not 0; otherwise the packing would never be used."""
    layer, x, call = compiled
    double(layer)
    nhwc_conv.prepack(layer)
    with mode():
        torch.testing.assert_close(call(x), direct(layer, x))
        assert uses_packing(layer, x, call)


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_weight_is_seen(compiled, change):
    layer, x, call = compiled
    before = direct(layer, x).detach()
    change(layer)
    assert not torch.allclose(direct(layer, x), before)
    with torch.no_grad():
        torch.testing.assert_close(call(x), direct(layer, x))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_a_step_of_a_fused_optimiser_is_seen(compiled, name):
    layer, x, call = compiled
    layer(x).sum().backward()
    getattr(torch.optim, name)(layer.parameters(), lr=0.5, fused=True).step()
    assert layer._packed is not None
    with torch.no_grad():
        torch.testing.assert_close(call(x), direct(layer, x))


@pytest.mark.needs_extension
@pytest.mark.parametrize("repack", ["eager call", "prepack"])
def test_packed_anew_it_is_fast_again(compiled, repack):
    layer, x, call = compiled
    stale = layer._packed
    double(layer)
    with torch.no_grad():
        torch.testing.assert_close(call(x), direct(layer, x))
        if repack == "prepack":
            nhwc_conv.prepack(layer)
        else:
            assert_current(layer, x)
        assert layer._packed is not stale
        torch.testing.assert_close(call(x), direct(layer, x))
        assert uses_packing(layer, x, call)


@pytest.mark.parametrize("kind", LAYERS)
def test_one_graph_for_all_packings_and_sizes(kind):
    layer, x = make(kind)
    nhwc_conv.prepack(layer)
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    with torch.no_grad():
        for height in (6, 8, 9):
            x = torch.randn(3, 5, height, 7, dtype=x.dtype)
            x = x if kind == "drop_in" else x.permute(0, 2, 3, 1)
            torch.testing.assert_close(call(x), direct(layer, x))
            double(layer)
            torch.testing.assert_close(call(x), direct(layer, x))
            assert_current(layer, x)
    assert counter.frame_count == 1


@pytest.mark.needs_extension
def test_another_instruction_set(compiled):
    from nhwc_conv._extension import module as extension

    layer, x, call = compiled
    for isa in extension.instruction_sets():
        with instruction_set(isa), torch.no_grad():
            torch.testing.assert_close(call(x), direct(layer, x))


class Clamped(nn.Module):
    """Writes to its weight inside the graph, before the convolution and after it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        self.layer.weight.clamp_(-0.05, 0.05)
        out = self.layer(x)
        self.layer.weight.add_(0.01)
        return out


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_graph_that_writes_to_the_weight(kind, backend):
    (layer, x), (same, _) = make(kind), make(kind)
    call, eager = torch.compile(nhwc_conv.prepack(Clamped(layer).eval()), backend=backend), Clamped(same)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(call(x), eager(x))
            torch.testing.assert_close(layer.weight, same.weight)


@pytest.mark.parametrize("kind", LAYERS)
def test_calls_that_record_gradients_use_the_weight(kind):
    layer, x = make(kind)
    nhwc_conv.prepack(layer)
    for recorded in (x, x.clone().requires_grad_()):
        backend = EagerAndRecordGraphs()
        out = torch.compile(layer, fullgraph=True, backend=backend)(recorded)
        out.sum().backward()
        assert [ops_of(graph) for graph in backend.graphs] == [["conv2d"]]
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", LAYERS)
def test_a_frozen_part_of_a_model_that_is_trained(kind):
    """Its weights need no gradient: packed in a graph that has derivatives."""
    layer, x = make(kind)
    nhwc_conv.prepack(layer).requires_grad_(False)
    head = nn.Linear(7 if kind == "drop_in" else 18, 2).double()
    call = torch.compile(nn.Sequential(layer, head), fullgraph=True, backend="aot_eager")
    out = call(x)
    torch.testing.assert_close(out, head(direct(layer, x)))
    (gradient,) = torch.autograd.grad(out.sum(), head.bias)
    assert gradient.abs().sum() > 0


class Traced(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("inside", ["vmap", "autocast", "function mode"])
@pytest.mark.parametrize("kind", LAYERS)
def test_what_needs_to_see_the_convolution_sees_it(kind, inside):
    layer, x = make(kind)
    nhwc_conv.prepack(layer.float())
    x = x.float()

    def function(x):
        if inside == "vmap":
            return torch.func.vmap(lambda image: layer(image))(x)
        context = torch.autocast("cpu", torch.bfloat16) if inside == "autocast" else Traced()
        with context:
            return layer(x)

    backend = EagerAndRecordGraphs()
    compiled = torch.compile(function, backend=backend)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), function(x))
    assert not any("packed" in op for graph in backend.graphs for op in ops_of(graph))


@pytest.mark.parametrize("kind", LAYERS)
def test_frozen_by_inductor(kind):
    layer, x = make(kind)
    nhwc_conv.prepack(layer)
    with torch.no_grad():
        call = torch.compile(layer, fullgraph=True, options={"freezing": True})
        torch.testing.assert_close(call(x), direct(layer, x))
