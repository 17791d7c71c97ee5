"""torch.compile(model, backend="nhwc_conv"): which convolutions of an unmodified model become ours, and results."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from spy import FORWARD, GRADIENTS, Spy
from torch import nn
from torch.utils.checkpoint import checkpoint

import nhwc_conv
from nhwc_conv._compile import use_nhwc_conv

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def assert_same(function, compiled, *args):
    """Results, their strides and the gradients of all arguments and parameters; those of one call in grad mode."""
    leaves = [t for t in args if t.requires_grad]
    leaves += list(function.parameters()) if isinstance(function, nn.Module) else []
    ours, theirs = compiled(*args), function(*args)
    torch.testing.assert_close(ours, theirs)
    assert ours.stride() == theirs.stride()
    if leaves:
        torch.testing.assert_close(*(torch.autograd.grad(t.pow(2).sum(), leaves) for t in (ours, theirs)))


def tensors(c=4, o=8, k=3, groups=1, dtype=torch.float64, shape=(2, 9, 8)):
    generator = torch.Generator().manual_seed(0)
    sizes = (*shape[:-2], c, *shape[-2:]), (o, c // groups, k, k), (o,)
    # Integers: all sums are exact in any order.
    return [torch.randint(-2, 3, s, generator=generator).to(dtype).requires_grad_() for s in sizes]


TAKEN = {
    "F.conv2d": (lambda x, w, b: F.conv2d(x, w, b, 2, 1), {}),
    "keywords": (lambda x, w, b: F.conv2d(input=x, weight=w, bias=b, padding=(2, 0), dilation=2), {}),
    "no bias": (lambda x, w, b: torch.conv2d(x, w) + b[:, None, None], {}),
    "same": (lambda x, w, b: torch.conv2d(x, w, b, padding="same"), dict(k=4)),
    "valid": (lambda x, w, b: torch.conv2d(x, w, b, (2, 1), "valid"), {}),
    "depthwise": (lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=4), dict(groups=4)),
    "float32": (lambda x, w, b: F.conv2d(x, w, b), dict(dtype=torch.float32)),
    "bfloat16": (lambda x, w, b: F.conv2d(x, w, b), dict(dtype=torch.bfloat16)),
    "unbatched": (lambda x, w, b: F.conv2d(x, w, b), dict(shape=(9, 8))),
    "aten": (lambda x, w, b: torch.ops.aten.conv2d(x, w, b, [2, 2]), {}),
    "aten.default": (lambda x, w, b: torch.ops.aten.conv2d.default(x, w, b, [2, 2]), {}),
    "aten.padding": (lambda x, w, b: torch.ops.aten.conv2d.padding(x, w, b, [1, 1], "same"), {}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken(name):
    function, sizes = TAKEN[name]
    spy = Spy()
    assert_same(function, torch.compile(function, backend=spy, fullgraph=True), *tensors(**sizes))
    assert spy.rewritten == 1 and torch.ops.aten.convolution.default not in spy.ops
    assert spy.ops[FORWARD] == spy.backward() == 1


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_weights_lie_as_the_weights_do(memory_format, dtype):
    """What the graph returns; autograd would copy others, element by element."""
    layer, spy, strides = nn.Conv2d(4, 6, 3, dtype=dtype).to(memory_format=memory_format), Spy(), []
    x = torch.randn(2, 4, 7, 8, dtype=dtype, requires_grad=True)
    layer.weight.register_hook(lambda grad: strides.append(grad.stride()))
    torch.compile(layer, backend=spy, fullgraph=True)(x).sum().backward()
    assert strides == [layer.weight.stride()] and spy.ops[GRADIENTS] == 1


def autocast(x, w, b):
    with torch.autocast("cpu", torch.bfloat16):
        return F.conv2d(x, w, b)


LEFT = {
    "autocast": (autocast, dict(dtype=torch.float32)),
    "conv3d": (lambda x, w, b: F.conv3d(x[:, :, None], w[:, :, None], b), {}),
    "transposed 3d": (
        lambda x, w, b: F.conv_transpose3d(x[:, :, None], w.transpose(0, 1)[:, :, None], b),
        {},
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_as_it_is(name):
    function, sizes = LEFT[name]
    spy = Spy()
    assert_same(function, torch.compile(function, backend=spy, fullgraph=True), *tensors(**sizes))
    assert spy.rewritten == 0 and spy.ops[FORWARD] == 0
    assert spy.ops[torch.ops.aten.convolution.default] == 1


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
    ).to(dtype)  # fmt: skip


def images(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_an_unmodified_model():
    model, spy = network(), Spy()
    assert_same(
        model, torch.compile(model, backend=spy, fullgraph=True), images(2, 3, 8, 10).requires_grad_()
    )
    assert spy.rewritten == spy.ops[FORWARD] == spy.backward() == 3
    assert {type(m) for m in model} == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU}


def calls_modules(model, x):
    """A graph as torch.compile made them when it did not look into torch's own modules."""
    graph = torch.fx.symbolic_trace(model)
    for node in graph.graph.nodes:
        node.meta["example_value"] = x
    return graph


def modules_called(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_module"]


def test_a_graph_that_calls_modules():
    model, x = network(), images(2, 3, 8, 10)
    graph = calls_modules(model, x)
    assert use_nhwc_conv(graph) == 3 and modules_called(graph) == ["1", "2"]
    assert_same(model.eval(), graph, x.requires_grad_())
    assert graph.get_submodule("0").weight is model[0].weight and type(model[0]) is nn.Conv2d


def hooked(layer):
    layer.register_forward_hook(lambda module, args, out: 2 * out)


def replaced(layer):
    layer.forward = lambda x: 2 * x


def bfloat16(layer):
    layer.bfloat16()


@pytest.mark.parametrize("change", (hooked, replaced, bfloat16))
def test_a_graph_that_calls_a_module_which_does_something_else(change):
    layer, x = nn.Conv2d(4, 4, 1).double(), images(2, 4, 8, 10)
    change(layer)
    graph = calls_modules(nn.Sequential(layer), x)
    assert use_nhwc_conv(graph) == 0 and modules_called(graph) == ["0"]
    x = x.to(layer.weight.dtype)
    assert torch.equal(graph(x), layer(x))


def test_results_of_no_grad_may_be_changed_in_place_outside():
    def function(x, w, b):
        with torch.no_grad():
            y = F.conv2d(x, w)
        return y.add_(b[:, None, None])

    x, w, b = tensors()
    for image in (x, x.detach().contiguous(memory_format=torch.channels_last)):
        spy = Spy()
        compiled = torch.compile(function, backend=spy, fullgraph=True)
        assert_same(function, compiled, image.detach(), w.detach(), b)
        assert spy.rewritten == 1


def test_under_checkpoint():
    model, spy = network(), Spy()
    model[1].eval()  # whose statistics would otherwise be updated twice

    def function(x):
        return checkpoint(model, x, use_reentrant=False)

    assert_same(
        function, torch.compile(function, backend=spy, fullgraph=True), images(2, 3, 8, 10).requires_grad_()
    )
    assert spy.rewritten == 3 and spy.ops[FORWARD] >= 3


def test_dynamic_sizes_compile_once():
    model, spy = network().eval(), Spy()
    compiled = torch.compile(model, backend=spy, fullgraph=True, dynamic=True)
    graphs = []
    for shape in ((2, 3, 8, 10), (3, 3, 11, 9), (5, 3, 16, 16), (4, 3, 7, 30)):
        x = images(*shape)
        for image in (x, x.contiguous(memory_format=torch.channels_last)):
            assert_same(model, compiled, image)
        graphs.append(spy.graphs)
    assert graphs == graphs[:1] * 4 and spy.rewritten == 3 * spy.graphs


def test_a_size_that_only_the_graph_knows_stays():
    """padding taken from a shape is no int while compiling."""

    def function(x, w, b):
        return F.conv2d(x, w, b, padding=x.shape[-1] // 4)

    spy = Spy()
    compiled = torch.compile(function, backend=spy, dynamic=True)
    for width in (8, 12):
        x, w, b = tensors(shape=(2, 9, width))
        torch.testing.assert_close(compiled(x, w, b), function(x, w, b))
    assert spy.graphs > 0 and spy.rewritten == 0 and spy.ops[FORWARD] == 0


def test_inductor_compiles_the_rest():
    """The backend itself, in inference; test_models.py has a training step."""
    torch._dynamo.reset()
    model = network(torch.float32).eval().to(memory_format=torch.channels_last)
    compiled = torch.compile(
        model, backend=nhwc_conv.compile_backend, options={"cpp-cache-precompile-headers": False}
    )
    x = images(2, 3, 8, 10, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = network(torch.float32).eval().double()(x.double())
        torch.testing.assert_close(compiled(x).double(), expected, rtol=1e-4, atol=1e-5)
        with torch.profiler.profile() as profile:
            compiled(x)
    calls = {e.key: e.count for e in profile.key_averages()}
    assert calls["nhwc_conv::conv2d"] == 3
    assert not {"aten::conv2d", "aten::convolution", "aten::batch_norm"} & calls.keys()
    with pytest.raises(Exception, match="no_such_option"):
        torch.compile(lambda x: x + 1, backend=nhwc_conv.compile_backend, options={"no_such_option": 1})(x)


def written(model, x):
    with torch.no_grad():
        model.weight.mul_(2)


def written_through_data(model, x):
    model.weight.data.mul_(2)


def loaded(model, x):
    model.load_state_dict({name: 2 * p for name, p in model.state_dict().items()})


def assigned(model, x):
    model.load_state_dict({name: 2 * p for name, p in model.state_dict().items()}, assign=True)


def stepped(model, x):
    model(x).pow(2).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1, fused=True).step()


@pytest.mark.parametrize("change", (written, written_through_data, loaded, assigned, stepped))
def test_no_weight_is_ever_stale(change):
    torch._dynamo.reset()
    x = images(2, 3, 8, 10).contiguous(memory_format=torch.channels_last)
    model = nn.Conv2d(3, 4, 3, bias=False).double()  # nothing is left for a C++ compiler
    compiled = torch.compile(model, backend=nhwc_conv.compile_backend)
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            before = compiled(x)
            with torch.enable_grad():
                change(model, x)
            assert not torch.equal(compiled(x), before)
            torch.testing.assert_close(compiled(x), model(x))


BY_NAME = """
import torch
from torch import nn
model = nn.Conv2d(3, 4, 3)  # alone and in channels_last: nothing is left for a C++ compiler
x = torch.randn(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)
compiled = torch.compile(model, backend="nhwc_conv")
torch.testing.assert_close(compiled(x), model(x))
with torch.profiler.profile() as profile:
    compiled(x)
assert [e.count for e in profile.key_averages() if e.key == "nhwc_conv::conv2d"] == [1]
"""


def test_by_name_once_installed(tmp_path):
    """The entry point that an installation declares, in a process that does not import nhwc_conv itself."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]))
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    without_compiler = dict(os.environ, NHWC_CONV_NO_EXT="1")
    subprocess.run(command, cwd=ROOT, env=without_compiler, check=True, capture_output=True)
    found = subprocess.run(
        [sys.executable, "-c", BY_NAME], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
