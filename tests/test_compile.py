"""torch.compile of models with our layers: one graph, few graphs for many sizes, results and gradients of eager."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d, NHWCConvTranspose2d

# Inductor and dynamo warn of what they do with PyTorch's own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
]
SIZES = [(2, 16, 16), (3, 16, 16), (4, 18, 20), (5, 22, 17), (7, 31, 18), (2, 16, 21), (6, 9, 9), (3, 16, 16)]


class Net(nn.Module):
    """Strided, depthwise and transposed layers among others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down = NHWCConv2d(3, 8, 3, stride=2, padding="same")
        self.depthwise = Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.up = NHWCConvTranspose2d(8, 4, 3, stride=2, padding="same_lower")
        self.last = nn.Linear(4, 5)

    def forward(self, x):
        x = self.norm(self.depthwise(self.down(x).relu().permute(0, 3, 1, 2))).relu()
        return self.last(self.up(x.permute(0, 2, 3, 1)).mean((1, 2)))


def image(size):
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randn(*size, 3, generator=generator, dtype=torch.float64)


def step(function, model, x):
    """The result and all gradients of one training step."""
    x = x.clone().requires_grad_()
    out = function(x)
    return out.detach(), *torch.autograd.grad(out.pow(2).sum(), [x, *model.parameters()])


def test_many_sizes_take_few_graphs():
    """Static sizes first, then a symbolic batch, then symbolic images; evaluation is one graph more."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model = Net().double()
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for size in SIZES:
        torch.testing.assert_close(step(compiled, model, image(size)), step(model, model, image(size)))
    assert counter.frame_count <= 3
    trained = counter.frame_count
    model.eval()
    with torch.no_grad():
        for size in SIZES:
            torch.testing.assert_close(compiled(image(size)), model(image(size)))
    assert counter.frame_count <= trained + 1


def test_inductor_trains_a_model_of_any_size():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("inductor")
    models = [nn.Sequential(Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU()).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    forwards = [torch.compile(models[0], fullgraph=True, dynamic=True, backend=counter), models[1]]
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in models]
    for size in SIZES[2:5]:  # the first one has height unlike width, which would be taken for one symbol
        outs = [forward(image(size).permute(0, 3, 1, 2)) for forward in forwards]
        for optimizer, out in zip(optimizers, outs, strict=True):
            optimizer.zero_grad()
            out.pow(2).mean().backward()
            optimizer.step()
        torch.testing.assert_close(*outs)
        torch.testing.assert_close(*(dict(m.named_parameters()) for m in models))
    assert counter.frame_count == 1


def test_packed_layers_and_autocast_compile():
    torch._dynamo.reset()
    model = Net().eval()
    packed = nhwc_conv.prepack(Net().eval())
    compiled = torch.compile(packed, fullgraph=True, backend="aot_eager")
    x = image(SIZES[0]).float()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
        with torch.autocast("cpu", torch.bfloat16):
            out, expected = compiled(x), model(x)
        assert out.dtype == expected.dtype == torch.bfloat16
        torch.testing.assert_close(out, expected)


CHANGING = {
    "padding": lambda x, w, n: nhwc_conv.conv2d(x, w, padding=n),
    "stride and dilation": lambda x, w, n: nhwc_conv.conv2d(x, w, stride=n, dilation=n),
    "from a size": lambda x, w, n: nhwc_conv.conv2d(x, w, padding=x.shape[0 + n] // 4),
    "transposed": lambda x, w, n: nhwc_conv.conv_transpose2d(x, w, stride=n, padding=n),
}


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("dynamic", [None, True])
def test_integers_that_change_from_call_to_call(name, dynamic):
    torch._dynamo.reset()
    function, w = CHANGING[name], torch.randn(3, 3, 3, 3, dtype=torch.float64)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for n, size in ((1, SIZES[0]), (2, SIZES[0]), (2, SIZES[3])):
        torch.testing.assert_close(compiled(image(size), w, n), function(image(size), w, n))


DATA_DEPENDENT = {
    "height": lambda x, w, chosen: nhwc_conv.conv2d(x[:, chosen], w, stride=2, padding=1),
    "width, same": lambda x, w, chosen: nhwc_conv.conv2d(x[:, :, chosen], w, stride=2, padding="same"),
    "channels": lambda x, w, chosen: nhwc_conv.conv2d(
        x.transpose(1, 3)[..., chosen], w[:, :, :1].expand(3, 3, 16, 3)[:, :, chosen]
    ),
    "kernel": lambda x, w, chosen: nhwc_conv.conv2d(x, w[:1].expand(16, 3, 3, 3)[chosen]),
    "winograd": lambda x, w, chosen: nhwc_conv.conv2d(x[:, chosen], w, algorithm="winograd"),
    "transposed": lambda x, w, chosen: nhwc_conv.conv_transpose2d(x[:, chosen], w, stride=2, padding=1),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA_DEPENDENT)
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_sizes_that_depend_on_data(name):
    """One graph, forward and backward, as for F.conv2d; what does not fit raises where it runs."""
    torch._dynamo.reset()
    function, w = DATA_DEPENDENT[name], torch.randn(3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    x = image((2, 16, 16)).requires_grad_()
    for count in (5, 9):
        chosen = torch.arange(16) < count
        outs = [f(x, w, chosen) for f in (compiled, function)]
        torch.testing.assert_close(*outs)
        torch.testing.assert_close(*(torch.autograd.grad(out.pow(2).sum(), (x, w)) for out in outs))
    if name != "channels":
        with pytest.raises(RuntimeError, match="Only zero batch|Kernel size|at least 1|Runtime assertion"):
            compiled(x, w, torch.arange(16) < 0)
