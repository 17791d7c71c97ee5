"""torch.compile(model, backend="nhwc_conv"): convolutions of sequences, transposed ones, and aten.convolution."""

import pytest
import torch
import torch.nn.functional as F
from spy import GRADIENTS, OURS, PACKED, Spy
from test_compile_backend import assert_same, bfloat16, calls_modules, hooked, modules_called, replaced
from torch import nn
from torch._inductor import config

from nhwc_conv._compile import use_nhwc_conv

aten = torch.ops.aten
FORWARD, INPUT, WEIGHT = OURS.conv2d.default, OURS.conv2d_input.default, OURS.conv2d_weight.default


def integers(*sizes, dtype=torch.float64):
    """Whose sums are exact in any order."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(-2, 3, size, generator=generator).to(dtype).requires_grad_() for size in sizes]


ROWS = ((2, 4, 19), (8, 4, 3), (8,))  # input, weight and bias
UP_ROWS = ((2, 4, 9), (4, 8, 3), (8,))
UP = ((2, 4, 9, 8), (4, 8, 3, 2), (8,))

FORWARDS = {
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1), ROWS),
    "keywords": (lambda x, w, b: F.conv1d(input=x, weight=w, bias=b, padding=(2,), dilation=[3]), ROWS),
    "no bias": (lambda x, w, b: torch.conv1d(x, w) + b[:, None], ROWS),
    "same": (lambda x, w, b: F.conv1d(x, w, b, padding="same", dilation=3), ROWS),
    "even same": (lambda x, w, b: F.conv1d(x, w, b, padding="same"), ((2, 4, 19), (8, 4, 6), (8,))),
    "valid": (lambda x, w, b: F.conv1d(x, w, b, (2,), "valid"), ROWS),
    "groups": (lambda x, w, b: F.conv1d(x, w, b, groups=2), ((2, 4, 19), (8, 2, 3), (8,))),
    "unbatched": (lambda x, w, b: F.conv1d(x, w, b, 2), (ROWS[0][1:], *ROWS[1:])),
    "channels last": (lambda x, w, b: F.conv1d(x.transpose(1, 2).contiguous().transpose(1, 2), w, b), ROWS),
    "one pixel": (lambda x, w, b: F.conv1d(x, w, b), ((1, 4, 3), (8, 4, 3), (8,))),
    "aten conv1d": (lambda x, w, b: aten.conv1d(x, w, b, [2]), ROWS),
    "aten conv1d.default": (lambda x, w, b: aten.conv1d.default(x, w, b, [2], [1]), ROWS),
    "aten conv1d.padding": (lambda x, w, b: aten.conv1d.padding(x, w, b, [1], "same"), ROWS),
    "convolution": (
        lambda x, w, b: torch.convolution(x, w, b, [2], [1], [1], False, [0], 1), ROWS,
    ),
    "aten.convolution": (
        lambda x, w, b: aten.convolution.default(x, w, b, [2, 1], [1, 0], [1, 1], False, [0, 0], 1),
        ((2, 4, 9, 8), (8, 4, 3, 2), (8,)),
    ),
}  # fmt: skip
TRANSPOSED = {
    "2d": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1), UP),
    "2d keywords": (
        lambda x, w, b: F.conv_transpose2d(
            input=x, weight=w, bias=b, stride=(3, 2), padding=[0, 1], output_padding=(2, 1), dilation=2
        ),
        UP,
    ),
    "2d padded beyond an input": (
        lambda x, w, b: torch.conv_transpose2d(x, w, b, 1, 0, (2, 1), dilation=3), UP,
    ),
    "2d no bias": (lambda x, w, b: torch.conv_transpose2d(x, w, stride=2) + b[:, None, None], UP),
    "2d groups": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, groups=2), (UP[0], (4, 4, 3, 2), (8,))),
    "2d unbatched": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2), (UP[0][1:], *UP[1:])),
    "2d channels last": (
        lambda x, w, b: F.conv_transpose2d(x.contiguous(memory_format=torch.channels_last), w, b, 2), UP,
    ),
    "2d aten": (lambda x, w, b: aten.conv_transpose2d(x, w, b, [2, 2]), UP),
    "2d aten.input": (lambda x, w, b: aten.conv_transpose2d.input(x, w, b, [2, 2], [1, 1], [1, 0]), UP),
    "1d": (lambda x, w, b: F.conv_transpose1d(x, w, b, 4, 1, 2), UP_ROWS),
    "1d keywords": (
        lambda x, w, b: torch.conv_transpose1d(input=x, weight=w, bias=b, stride=[2], dilation=(3,)), UP_ROWS,
    ),
    "1d padded beyond an input": (lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 0, 4, dilation=5), UP_ROWS),
    "1d groups": (lambda x, w, b: F.conv_transpose1d(x, w, b, 2, groups=4), (UP_ROWS[0], (4, 2, 3), (8,))),
    "1d unbatched": (lambda x, w, b: F.conv_transpose1d(x, w, b, 2), (UP_ROWS[0][1:], *UP_ROWS[1:])),
    "1d aten": (lambda x, w, b: aten.conv_transpose1d.default(x, w, b, [2]), UP_ROWS),
    "aten.convolution": (
        lambda x, w, b: aten.convolution(x, w, b, [2, 1], [1, 0], [1, 1], True, [1, 0], 1), UP,
    ),
    "aten.convolution 1d": (lambda x, w, b: aten.convolution(x, w, b, [2], [1], [1], True, [1], 1), UP_ROWS),
}  # fmt: skip


def assert_ours(function, expected, *args):
    """Results, strides, gradients and dtypes as torch's, by ops that are `expected` and no convolution of aten."""
    spy = Spy()
    assert_same(function, torch.compile(function, backend=spy, fullgraph=True), *args)
    assert spy.rewritten == 1 and {op: n for op, n in spy.ops.items() if "conv" in str(op)} in expected


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FORWARDS)
def test_sequences_are_taken(name, dtype):
    function, sizes = FORWARDS[name]
    backward = {GRADIENTS: 1}, {INPUT: 1, WEIGHT: 1}  # the latter of one sequence without a batch
    assert_ours(function, [{FORWARD: 1, **ops} for ops in backward], *integers(*sizes, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_ones_are_taken(name, dtype):
    function, sizes = TRANSPOSED[name]
    assert_ours(function, [{INPUT: 1, FORWARD: 1, WEIGHT: 1}], *integers(*sizes, dtype=dtype))


def under_autocast(x, w, b):
    with torch.autocast("cpu", torch.bfloat16):
        return F.conv1d(x, w, b)


def of_a_size(x, w, b):
    """A number that a compiler for any size does not know."""
    return F.conv_transpose1d(x, w, b, padding=x.shape[-1] // 9)


LEFT = {
    "autocast": (under_autocast, [t.detach() for t in integers(*ROWS, dtype=torch.float32)], None),
    "complex": (lambda x, w, b: F.conv1d(x + 1j, w + 0j, b + 0j).abs(), integers(*ROWS), None),
    "3d": (
        lambda x, w, b: aten.convolution(x, w, b, [1] * 3, [0] * 3, [1] * 3, True, [0] * 3, 1),
        integers((2, 4, 5, 4, 3), (4, 8, 2, 2, 2), (8,)), None,
    ),
    "a size": (of_a_size, integers(*UP_ROWS), True),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_as_it_is(name):
    function, args, dynamic = LEFT[name]
    spy = Spy()
    assert_same(function, torch.compile(function, backend=spy, dynamic=dynamic), *args)
    assert spy.graphs and spy.rewritten == 0 and not any("nhwc_conv" in str(op) for op in spy.ops)


def test_an_argument_that_no_op_of_ours_has():
    x, w, b = (t.detach() for t in integers(*ROWS))

    def function(x, w, b, out):
        return aten.convolution.out(x, w, b, [1], [0], [1], False, [0], 1, out=out)

    graph = torch.fx.symbolic_trace(function)
    for node, tensor in zip(graph.graph.nodes, (x, w, b, None, x), strict=False):
        node.meta["example_value"] = tensor
    assert use_nhwc_conv(graph) == 0
    given = torch.empty(2, 8, 17, dtype=torch.float64)
    assert graph(x, w, b, given) is given and torch.equal(given, F.conv1d(x, w, b))


def test_what_torch_refuses_is_left_to_it():
    def function(x, w):
        return F.conv_transpose1d(x, w, stride=2, output_padding=2)

    x, w, _ = (t.detach() for t in integers(*UP_ROWS))
    spy = Spy()
    for call in (function, torch.compile(function, backend=spy)):
        with pytest.raises(RuntimeError, match="output padding must be smaller than") as error:
            call(x, w)
        assert type(error.value) is RuntimeError  # none of a backend
    assert spy.graphs == 1 and spy.rewritten == 0


def generator():
    """A U-Net's step down and up of images, in which sequences are rows."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        dict(
            down=nn.Conv2d(3, 6, 3, 2, 1), up=nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1, groups=2),
            mix=nn.Conv1d(4, 6, 5, padding="same", padding_mode="circular"),
            stretch=nn.ConvTranspose1d(6, 2, 4, 2, 1, bias=False),
        )
    ).double()  # fmt: skip


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = generator()

    def forward(self, x):
        x = self.layers.up(self.layers.down(x).relu()).relu()
        return self.layers.stretch(self.layers.mix(x.flatten(2)).tanh())


def images(*size):
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_dynamic_sizes_compile_once():
    model, spy = Network(), Spy()
    compiled = torch.compile(model, backend=spy, fullgraph=True, dynamic=True)
    graphs = []
    for size in ((2, 3, 8, 10), (3, 3, 12, 6), (5, 3, 16, 14)):
        assert_same(model, compiled, images(*size))
        graphs.append(spy.graphs)
    assert graphs == [1] * 3 and spy.rewritten == 4
    assert aten.convolution.default not in spy.ops


def test_results_of_no_grad_may_be_changed_in_place_outside():
    def function(x, w, image, up, b):
        with torch.no_grad():
            y, z = F.conv1d(x, w), F.conv_transpose2d(image, up)
        return y.add_(b[:, None]), z.add_(b[:, None, None])

    x, w, b = integers(*ROWS)
    image, up, _ = integers(*UP)
    spy = Spy()
    compiled = torch.compile(function, backend=spy, fullgraph=True)
    for format in (torch.contiguous_format, torch.channels_last):
        given = image.detach().contiguous(memory_format=format)
        ours, theirs = (f(x.detach(), w.detach(), given, up.detach(), b) for f in (compiled, function))
        torch.testing.assert_close(ours, theirs)
        assert [t.stride() for t in ours] == [t.stride() for t in theirs]
    assert spy.rewritten == 2 * spy.graphs


def test_constant_weights_of_sequences_are_packed():
    model, spy, x = Network(), Spy(freezing=True), images(2, 3, 8, 10)
    with torch.no_grad(), config.patch(freezing=True):
        torch.testing.assert_close(torch.compile(model, backend=spy, fullgraph=True)(x), model(x))
    assert spy.packed == [(1, False), (1, True)]
    assert [spy.ops[op] for op in (PACKED, INPUT, FORWARD)] == [2, 2, 0]


LAYERS = {
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, padding=1, padding_mode="reflect"), (2, 4, 9)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2, bias=False), (2, 4, 9)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, dilation=2), (2, 4, 5, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_graph_that_calls_modules(name):
    make, size = LAYERS[name]
    model, x = nn.Sequential(make()).double(), images(*size)
    graph = calls_modules(model, x)
    assert use_nhwc_conv(graph) == 1 and not modules_called(graph)
    assert_same(model, graph, x.requires_grad_())


@pytest.mark.parametrize("change", (hooked, replaced, bfloat16))
@pytest.mark.parametrize("name", LAYERS)
def test_a_graph_that_calls_a_module_which_does_something_else(name, change):
    make, size = LAYERS[name]
    layer, x = make().double(), images(*size)
    change(layer)
    graph = calls_modules(nn.Sequential(layer), x)
    assert use_nhwc_conv(graph) == 0 and modules_called(graph) == ["0"]
    x = x.to(layer.weight.dtype)
    assert torch.equal(graph(x), layer(x))


def test_a_module_that_is_told_the_size_of_its_result():
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.ConvTranspose2d(4, 6, 2, 2).double()

        def forward(self, x):
            return self.layer(x, [11, 9])

    model, x = Up(), images(2, 4, 5, 4)
    graph = calls_modules(model, x)
    assert use_nhwc_conv(graph) == 0 and modules_called(graph) == ["layer"]
    torch.testing.assert_close(graph(x), model(x))
    spy = Spy()  # which shows what the module does
    assert_same(model, torch.compile(model, backend=spy, fullgraph=True), x)
    assert spy.rewritten == 1
