"""torch.onnx.export of our layers and ops, run by onnxruntime."""

import collections
from importlib.util import find_spec

import pytest
import torch
from cases import BY_NAME
from torch import nn
from torch.export import Dim

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d, NHWCConvTranspose2d

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="onnx, onnxscript or onnxruntime is not installed",
)
# Of torch.export and of the packages about themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]
ops = torch.ops.nhwc_conv
SOME = ["notebook", "stride2_padded", "same_4x3_s2x2", "groups2", "depthwise_multiplier3", "unbatched"]
any_size = Dim.DYNAMIC


def export(model, *args, dynamic=None):
    shapes = None if dynamic is None else (dynamic,) * len(args)
    return torch.onnx.export(model.eval(), args, dynamo=True, dynamic_shapes=shapes, verbose=False)


def run(program, *args):
    """The results of onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]
    out = session.run(None, {name: t.numpy() for name, t in zip(names, args, strict=True)})
    return [torch.from_numpy(o) for o in out]


def kinds(program):
    """How many nodes there are of each kind."""
    return collections.Counter(node.op_type for node in program.model.graph)


def check(model, *calls, dynamic=None):
    """Exports with the first of several argument lists, and compares for all of them."""
    program = export(model, *calls[0], dynamic=dynamic)
    for args in calls:
        with torch.no_grad():
            expected = model(*args)
        expected = expected if isinstance(expected, list) else [expected]
        for out, value in zip(run(program, *args), expected, strict=True):
            torch.testing.assert_close(out, value, rtol=1e-4, atol=1e-5)
    return program


def images(*sizes, channels=3):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(*size, channels, generator=generator),) for size in sizes]


@needs_onnx
@pytest.mark.parametrize("inference", [False, True])
def test_a_converted_model(inference):
    """No transposition, and the weights as nn.Conv2d has them."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, groups=2)
    model = nn.Sequential(*layers).eval()
    model[1].running_mean.normal_()
    x, other = torch.randn(2, 3, 9, 8), torch.randn(5, 3, 16, 7)
    converted = nhwc_conv.convert(model, inference=inference, example=x if inference else None)
    assert any(isinstance(module, Conv2d) for module in converted.modules())
    sizes = {0: any_size, 2: any_size, 3: any_size}
    program = check(converted, (x,), (other,), dynamic=sizes)
    assert kinds(program)["Conv"] == 2 and kinds(program)["Transpose"] == 0
    assert kinds(program)["BatchNormalization"] == (not inference)


@needs_onnx
def test_prepacked_layers_stay_packed():
    """Exporting must not take what a layer has packed, nor leave it something else."""
    model = nhwc_conv.prepack(NHWCConv2d(3, 8, 3).eval())
    with torch.no_grad():
        x = torch.randn(1, 6, 6, 3)
        expected = model(x)
        check(model, (x,))
        assert torch.equal(model(x), expected)


def test_real_tensors_are_computed_while_exporting(monkeypatch):
    """Whoever packs a weight meanwhile gets a packing."""
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert ops.pack_weight(torch.randn(3, 3, 4, 5)).dim() == 1


class Nhwc(nn.Module):
    """Every padding, with stride, dilation, groups, without bias, and a transposed layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            NHWCConv2d(3, 8, 3, padding="same"),
            nn.ReLU(),
            NHWCConv2d(8, 8, (2, 3), padding=(1, 0, 2, 1), groups=2, bias=False),
            NHWCConv2d(8, 6, (2, 3), stride=2, padding="same_lower"),
            NHWCConvTranspose2d(6, 4, 3, stride=2, padding="same"),
            NHWCConv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode="reflect"),
            NHWCConvTranspose2d(4, 2, 3, stride=(2, 3), padding=(1, 0, 2, 1), output_padding=1, groups=2),
            NHWCConv2d(2, 5, (3, 2), stride=3, padding="same", algorithm="im2col"),
        )

    def forward(self, x):
        return self.layers(x)


@needs_onnx
def test_a_model_of_nhwc_layers():
    check(Nhwc(), *images((2, 9, 8)))


@needs_onnx
@pytest.mark.parametrize("batch", [(), (2,)], ids=["unbatched", "batched"])
def test_sizes_of_batch_and_image_stay_free(batch):
    rank = len(batch)
    sizes = {dim: any_size for dim in range(rank + 2)}
    calls = images(
        (*batch, 9, 8), *[(*(n for _ in batch), h, w) for n, h, w in ((1, 10, 9), (4, 8, 7), (3, 11, 22))]
    )
    check(Nhwc(), *calls, dynamic=sizes)


class ThereAndBack(nn.Module):
    """Padding by stride, and the input gradient: which rows there are beyond the last tap depends on the size."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = NHWCConv2d(3, 4, 3, stride=2, padding="same")

    def forward(self, x):
        y, steps = self.layer(x), ((2, 2), (0, 0))
        z = ops.conv2d(x, self.layer.weight, None, *steps)
        return [y, ops.conv2d_input(z, self.layer.weight, x.shape[1:3], *steps)]


@needs_onnx
def test_what_depends_on_the_size_is_not_frozen():
    """ "same" is symmetric for 9 pixels, not for 8; and a stride of 2 leaves no row over there."""
    sizes = {0: any_size, 1: any_size, 2: any_size}
    check(ThereAndBack(), *images((2, 9, 9), (3, 8, 10), (1, 11, 8)), dynamic=sizes)


@needs_onnx
def test_weights_are_folded_and_transpositions_cancel():
    """HWIO weights come out as OIHW initialisers; NHWC to NCHW remains at the ends of neighbouring convolutions."""
    model = nn.Sequential(NHWCConv2d(3, 64, 3), NHWCConv2d(64, 128, 3), NHWCConv2d(128, 4, 1))
    program = export(model, torch.randn(1, 8, 9, 3))
    assert kinds(program) == {"Transpose": 2, "Conv": 3}
    shapes = [tuple(value.shape) for value in program.model.graph.initializers.values()]
    assert {(64, 3, 3, 3), (128, 64, 3, 3), (4, 128, 1, 1)} <= set(shapes)


class Ops(nn.Module):
    """All ops of one case."""

    def __init__(self, case):
        super().__init__()
        self.case = case
        forward = ["conv2d", "im2col", "matmul"] + ["winograd"] * case.winograd_applies
        self.names = [*forward, "conv2d_input", "conv2d_weight", "conv2d_packed"]

    def forward(self, x, w, grad):
        steps = tuple(self.case.geometry.values())
        packed = ops.pack_weight(w, self.case.groups, False)
        return [
            *(getattr(ops, name)(x, w, None, *steps) for name in self.names[:-3]),
            ops.conv2d_input(grad, w, x.shape[-3:-1], *steps),
            ops.conv2d_weight(grad, x, w.shape[:2], *steps),
            ops.conv2d_packed(x, packed, w.shape, None, *steps),
        ]


@needs_onnx
@pytest.mark.parametrize("name", SOME)
def test_every_op(name):
    """Exactly, on integers: eager Winograd apart, which is a convolution like the others in ONNX."""
    case = BY_NAME[name]
    x, w, _ = case.tensors(torch.float32, integers=True)
    with nhwc_conv.flags(winograd=False):
        grad = case.grad_like(ops.conv2d(x, w, None, **case.geometry), integers=True)
        expected = Ops(case)(x, w, grad)
    results = run(export(Ops(case), x, w, grad), x, w, grad)
    for op, out, value in zip(Ops(case).names, results, expected, strict=True):
        assert torch.equal(out, results[0] if op == "winograd" else value), op


class Gradients(nn.Module):
    """Both gradients, for any batch."""

    def forward(self, x, grad, w):
        steps = (2, 1), (1, 1), (1, 2), 2
        return [ops.conv2d_input(grad, w, x.shape[1:3], *steps), ops.conv2d_weight(grad, x, (3, 2), *steps)]


@needs_onnx
def test_gradients_of_any_batch():
    torch.manual_seed(0)
    w = torch.randn(3, 2, 2, 6)
    calls = [(torch.randn(n, 7, 6, 4), torch.randn(n, 4, 6, 6), w) for n in (2, 3)]
    program = torch.onnx.export(
        Gradients().eval(),
        calls[0],
        dynamo=True,
        dynamic_shapes=({0: any_size}, {0: any_size}, None),
        verbose=False,
    )
    for args in calls:
        for out, expected in zip(run(program, *args), Gradients()(*args), strict=True):
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@needs_onnx
def test_an_exported_program():
    """torch.export keeps our ops; torch.onnx.export of what it returns finds their forms."""
    model = Nhwc().eval()
    (x,), (other,) = images((2, 9, 8), (3, 8, 11))
    sizes = {0: any_size, 1: any_size, 2: any_size}
    program = torch.export.export(model, (x,), dynamic_shapes=(sizes,))
    assert "nhwc_conv.conv2d.default" in {str(node.target) for node in program.graph.nodes}
    onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    with torch.no_grad():
        torch.testing.assert_close(run(onnx, other)[0], model(other), rtol=1e-4, atol=1e-5)


@needs_onnx
def test_float64():
    """onnxruntime has no such convolution on CPU; ONNX's reference implementation has."""
    from onnx.reference import ReferenceEvaluator

    model = NHWCConv2d(3, 4, 3, stride=2, padding="same").double()
    x = torch.randn(2, 6, 7, 3, dtype=torch.float64)
    program = export(model, x)
    (out,) = ReferenceEvaluator(program.model_proto).run(
        None, {program.model.graph.inputs[0].name: x.numpy()}
    )
    torch.testing.assert_close(torch.from_numpy(out), model(x).detach())


def cause(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("packed", ops.pack_weight(torch.randn(3, 3, 4, 5)))

    def forward(self, x):
        return ops.conv2d_packed(x, self.packed, (3, 3, 4, 5))


@needs_onnx
def test_weights_packed_before():
    with pytest.raises(torch.onnx.OnnxExporterError) as raised:
        export(Packed(), torch.randn(1, 6, 6, 4))
    assert cause(raised.value).startswith(
        "conv2d_packed cannot be exported to ONNX with weights packed before"
    )


@needs_onnx
def test_inference_mode():
    with torch.inference_mode(), pytest.raises(torch.onnx.OnnxExporterError) as raised:
        export(NHWCConv2d(3, 4, 3), torch.randn(1, 6, 6, 3))
    assert "torch.no_grad() will do" in cause(raised.value)


def test_other_exports_keep_the_ops():
    program = torch.export.export(NHWCConv2d(3, 4, 3), (torch.randn(1, 6, 6, 3),)).run_decompositions()
    assert "nhwc_conv.conv2d.default" in {str(node.target) for node in program.graph.nodes}
