"""Code as users write it. pytest runs it, and mypy (`make check`) has to find these types in it, and these errors."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import nhwc_conv
from nhwc_conv import BenchmarkReport, ConvertReport
from nhwc_conv.functional import Algorithm


class Network(nn.Module):
    def __init__(self, width: int, algorithm: Algorithm = "auto") -> None:
        super().__init__()
        self.first = nhwc_conv.NHWCConv2d(3, width, 3, padding="same", algorithm=algorithm)
        self.second = nhwc_conv.LazyNHWCConv2d(width, (3, 3), stride=2, padding=(1, 0, 1, 0))
        self.up = nhwc_conv.NHWCConvTranspose2d(width, 1, 2, stride=(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        return self.up(y, output_size=x.shape[1:3])


def images() -> Tensor:
    return torch.ones(2, 8, 8, 3)


def test_layers() -> None:
    network = Network(4)
    assert_type(network(images()), Any)  # torch.nn.Module's
    assert_type(network.first(images()), Tensor)
    assert_type(network.first.weight, nn.Parameter)
    assert_type(network.first.bias, nn.Parameter | None)
    assert_type(network.first.stride, tuple[int, int])
    assert_type(nhwc_conv.Conv2d(3, 4, 3)(torch.ones(2, 3, 8, 8)), Tensor)
    assert_type(nhwc_conv.LazyConv2d(4, 3, padding="same")(torch.ones(2, 3, 8, 8)), Tensor)
    assert_type(nhwc_conv.ConvTranspose1d(3, 4, 3, 2)(torch.ones(2, 3, 8), output_size=[18]), Tensor)
    signals = nhwc_conv.NWCConv1d(3, 4, 3, padding=(2, 0), activation="silu")
    assert_type(signals(torch.ones(2, 8, 3), residual=torch.ones(2, 8, 4)), Tensor)
    assert_type(signals.stride, tuple[int])
    assert_type(nhwc_conv.NWCConvTranspose1d(3, 4, 2, stride=2)(torch.ones(2, 8, 3), output_size=16), Tensor)
    assert_type(
        nhwc_conv.LazyConv1d(4, (3,), padding="same", algorithm="im2col")(torch.ones(2, 3, 8)), Tensor
    )
    assert_type(nhwc_conv.LazyConvTranspose2d(4, 3, stride=(1, 2))(torch.ones(2, 3, 8, 8), [10, 17]), Tensor)
    assert_type(nhwc_conv.LazyConvTranspose1d(4, (3,), output_padding=0)(torch.ones(2, 3, 8), [10]), Tensor)
    assert_type(nhwc_conv.LazyNWCConv1d(4, 3, padding=(2, 0))(torch.ones(2, 8, 3)), Tensor)
    assert_type(nhwc_conv.LazyNWCConvTranspose1d(4, 3)(torch.ones(2, 8, 3), 10), Tensor)
    assert_type(nhwc_conv.nn.FusedConv2d(3, 4, 3, activation="relu")(torch.ones(2, 3, 8, 8)), Tensor)


def test_layers_from_others() -> None:
    theirs = nn.Conv2d(3, 4, 3)
    layer = nhwc_conv.NHWCConv2d.from_torch(theirs, algorithm="im2col")
    assert_type(layer, nhwc_conv.NHWCConv2d)
    assert_type(layer.to_torch(), nn.Conv2d)
    assert_type(nhwc_conv.Conv2d.from_torch(theirs), nhwc_conv.Conv2d)
    kernel = np.ones((3, 3, 2, 4), np.float32)
    assert_type(nhwc_conv.NHWCConv2d.from_kernel(kernel, padding_mode="reflect"), nhwc_conv.NHWCConv2d)
    assert_type(nhwc_conv.NHWCConv2d.from_depthwise_kernel(kernel, [0.0] * 8), nhwc_conv.NHWCConv2d)
    up = nhwc_conv.NHWCConvTranspose2d.from_kernel(kernel, padding="same", transpose_kernel=False)
    assert_type(up, nhwc_conv.NHWCConvTranspose2d)
    assert_type(up.to_torch(), nn.ConvTranspose2d)
    assert_type(nhwc_conv.NHWCConvTranspose2d.from_torch(up.to_torch()), nhwc_conv.NHWCConvTranspose2d)
    signals = nhwc_conv.NWCConv1d.from_kernel(kernel[0], stride=(2,), padding="causal", activation="relu")
    assert_type(signals, nhwc_conv.NWCConv1d)
    assert_type(nhwc_conv.NWCConv1d.from_depthwise_kernel(kernel[0], [0.0] * 8), nhwc_conv.NWCConv1d)
    back = nhwc_conv.NWCConv1d.from_torch(nn.Conv1d(3, 4, 3), "matmul").to_torch()
    assert_type(back, nn.Conv1d)
    up_1d = nhwc_conv.NWCConvTranspose1d.from_kernel(kernel[0], output_padding=None, transpose_kernel=False)
    assert_type(up_1d, nhwc_conv.NWCConvTranspose1d)
    assert_type(nhwc_conv.NWCConvTranspose1d.from_torch(up_1d.to_torch()), nhwc_conv.NWCConvTranspose1d)
    nhwc_conv.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    with nhwc_conv.weight_layout("OIHW"):
        layer.load_state_dict(theirs.state_dict())


def test_functions() -> None:
    x, w = images(), torch.ones(3, 3, 3, 4)
    assert_type(nhwc_conv.conv2d(x, w, None, (1, 2), (1, 1, 1, 1), algorithm="matmul"), Tensor)
    up = nhwc_conv.conv_transpose2d(x, torch.ones(2, 2, 5, 3), stride=2, output_size=(16, 17))
    assert_type(up, Tensor)
    signal = nhwc_conv.conv1d(x[0], torch.ones(3, 3, 4), padding=(2, 0), activation="relu")
    assert_type(signal, Tensor)
    assert_type(nhwc_conv.conv_transpose1d(signal, torch.ones(2, 5, 4), stride=2, output_size=16), Tensor)
    assert_type(nhwc_conv.ops.im2col(x, w, stride=[2, 2]), Tensor)
    assert_type(nhwc_conv.ops.conv2d_weight(x, x, (3, 3), padding=1), Tensor)
    nhwc_conv.reference.conv_im2col(x.numpy(), w.numpy(), stride=(2, 1), padding=[1, 0])
    with nhwc_conv.flags(winograd=False):
        assert_type(nhwc_conv.set_flags(winograd=False), dict[str, bool])
    assert_type(nhwc_conv.show_config(), str)


def test_models() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    x = torch.ones(2, 3, 8, 8)
    reports: list[ConvertReport] = []
    fast = nhwc_conv.convert(model, inference=True, example=x, report=reports.append)
    assert_type(fast, nn.Module)
    assert_type(reports[0].folded, dict[str, str])
    assert_type(nhwc_conv.convert(model), nn.Sequential)
    assert_type(nhwc_conv.prepack(model), nn.Sequential)
    assert_type(nhwc_conv.revert(model), nn.Sequential)
    assert_type(nhwc_conv.convert(nn.Conv2d(3, 4, 3), subclasses=True), nn.Conv2d)
    assert_type(nhwc_conv.revert(nhwc_conv.Conv2d(3, 4, 3)), nn.Conv2d)
    found = nhwc_conv.benchmark(model, (x,), rounds=1, seconds=0, report=None)
    assert_type(found, BenchmarkReport)
    assert_type(found.speed_up("converted"), float)
    assert_type(found.forms["converted"].seconds, list[float])
    compiled = torch.compile(model, backend=nhwc_conv.compile_backend)
    assert callable(compiled)


def test_keras() -> None:
    pytest.importorskip("keras")
    with nhwc_conv.keras.enable() as enabled:
        assert_type(enabled, nhwc_conv.keras.Enabled)
    assert callable(nhwc_conv.keras.prepare)
    nhwc_conv.keras.disable()


@pytest.mark.needs_extension
def test_explain() -> None:
    plan = nhwc_conv.explain((1, 8, 8, 3), (3, 3, 3, 4), padding="same", direction="weight_gradient")
    assert_type(plan, dict[str, Any])
    with pytest.raises(ValueError):
        nhwc_conv.explain((1, 8, 8, 3), (3, 3, 3, 4), direction="backward")  # type: ignore[arg-type]


def test_what_is_wrong_is_wrong_to_the_checker_too() -> None:
    x, w, wrong = images(), torch.ones(3, 3, 3, 4), (TypeError, ValueError, RuntimeError)
    layer = nhwc_conv.NHWCConv2d(3, 4, 3)
    with pytest.raises(wrong):
        nhwc_conv.conv2d(x.numpy(), w)  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.conv2d(x, w, stride=1.5)  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.conv2d(x, w, dilation=(1, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.conv2d(x, w, padding=((1, 1), (1, 1)))  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.conv2d(x, w, algorithm="fft")  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.conv2d(x, w, None, 1, 0, 1, 1, "im2col")  # type: ignore[call-arg]
    with pytest.raises(wrong):
        nhwc_conv.conv_transpose2d(x, w, output_padding="same")  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.ops.im2col(x)  # type: ignore[call-arg]
    with pytest.raises(wrong):
        nhwc_conv.ops.im2col(x, w, algorithm=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        nhwc_conv.ops.col2im  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(wrong):
        layer(x, None, x)  # type: ignore[call-arg]
    with pytest.raises(wrong):
        layer("x")  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.NHWCConv2d(3, 4)  # type: ignore[call-arg]
    with pytest.raises(wrong):
        nhwc_conv.NHWCConv2d(3, 4, 3, padding_mode="mirror")  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.NHWCConvTranspose2d(3, 4, 3, padding_mode="reflect")  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.Conv2d(3, 4, (3, 3, 3))(x)  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.NHWCConv2d.from_kernel(w, algorithm="fft")  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.NHWCConv2d.from_torch(nn.Linear(3, 4))  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.convert([nn.Conv2d(3, 4, 3)])  # type: ignore[call-overload]
    with pytest.raises(wrong):
        nhwc_conv.benchmark(nn.Conv2d(3, 4, 3).eval(), 3)  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.weight_layout("NHWC").__enter__()  # type: ignore[arg-type]
    with pytest.raises(wrong):
        nhwc_conv.nn.init.kaiming_uniform_(layer.weight, mode="fan")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        layer(x).relu6()  # type: ignore[attr-defined]


def parameters_of(signature: Callable[..., Any]) -> list[tuple[str, object]]:
    """Names of parameters, and `...` where one has a default, whose value the schema has."""
    parameters = list(inspect.signature(signature).parameters.values())[1:]
    return [(p.name, p.default) for p in parameters]


def arguments_of(op: Any) -> list[tuple[str, object]]:
    return [
        (argument.name, ... if argument.has_default_value() else inspect.Parameter.empty)
        for argument in op.default._schema.arguments
    ]


def test_signatures_of_ops_are_their_schemas() -> None:
    from nhwc_conv._ops import schema, signatures

    declared = inspect.get_annotations(signatures.Ops)
    assert set(declared) == {*schema.SCHEMAS, *schema.ATEN_SCHEMAS}
    for name, protocol in declared.items():
        call = getattr(signatures, protocol).__call__
        assert parameters_of(call) == arguments_of(getattr(torch.ops.nhwc_conv, name)), name
