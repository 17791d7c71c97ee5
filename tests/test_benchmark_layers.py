"""nhwc_conv.benchmark(layers=True): which convolutions it times, what they compute, and what limits them."""

import pytest
import torch
from torch import nn

import nhwc_conv
from nhwc_conv import _extension
from nhwc_conv._benchmark import layers as watching
from nhwc_conv._benchmark import machine as machines

pytestmark = pytest.mark.needs_extension
QUICK = dict(layers=True, rounds=1, seconds=0, report=None)


class Machine:
    """10 GFLOP/s, 2 GB/s, 1 us."""

    overhead = 1e-6

    def peak(self, dtype):
        assert dtype == torch.float32
        return 1e10

    def bandwidth(self, moved):
        return 2e9


def call(layer, x, out, seconds, dtype=torch.float32):
    return watching.Call("path", layer, x, out, dtype, seconds)


def test_every_convolution_has_a_row():
    """Counted by hand: outputs (of transposed ones, inputs) times the weights that each meets, twice."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, padding="valid", dilation=2, groups=4, padding_mode="reflect"),
        nn.ConvTranspose2d(8, 4, 2, 2),
    ).eval()
    found = nhwc_conv.benchmark(model, torch.randn(2, 3, 14, 17), **QUICK)
    assert found.layers_error == ""
    rows = [(row.path, row.x_shape, row.w_shape, row.flops) for row in found.layers]
    assert rows == [
        ("0", (2, 3, 14, 17), (8, 3, 3, 3), 2 * (2 * 8 * 14 * 17) * (3 * 3 * 3)),
        ("3", (2, 8, 14, 17), (8, 2, 3, 3), 2 * (2 * 8 * 5 * 7) * (2 * 3 * 3)),
        ("4", (2, 8, 5, 7), (8, 4, 2, 2), 2 * (2 * 8 * 5 * 7) * (4 * 2 * 2)),
    ]
    assert not any(row.algorithm == "PyTorch" for row in found.layers)
    for row in found.layers:
        assert row.limit in ("arithmetic", "memory", "overhead") and row.share > 0 and row.seconds > 0
        assert row.gflops == pytest.approx(row.flops / row.seconds / 1e9)
    text = str(found)
    assert "2x3x14x17" in text and "8x2x3x3" in text and "limited by" in text and "by limit: " in text


def test_layers_of_nhwc_tensors_and_layers_that_are_called_twice():
    layer = nhwc_conv.NHWCConv2d(4, 4, 3, padding=(1, 1, 1, 1))
    model = nn.Sequential(layer, layer).eval()
    found = nhwc_conv.benchmark(model, torch.randn(1, 9, 8, 4), **QUICK)
    assert [row.path for row in found.layers] == ["0", "0"]
    assert found.layers[0].flops == found.layers[1].flops == 2 * (9 * 8 * 4) * (3 * 3 * 4)
    assert found.layers[0].algorithm == nhwc_conv.explain((1, 9, 8, 4), (3, 3, 4, 4), padding=1)["algorithm"]
    transposed = nn.Sequential(nhwc_conv.NHWCConvTranspose2d(4, 6, 2))
    (row,) = watching.layer_times(transposed, torch.zeros(1, 9, 8, 4), 1, Machine())
    assert row.flops == 2 * (9 * 8 * 4) * (2 * 2 * 6) and row.algorithm == "im2col"
    signals = nn.Sequential(nhwc_conv.NWCConv1d(4, 6, 5), nhwc_conv.NWCConvTranspose1d(6, 4, 2, 2))
    rows = watching.layer_times(signals, torch.zeros(3, 20, 4), 1, Machine())
    assert [row.flops for row in rows] == [2 * (3 * 16 * 6) * (5 * 4), 2 * (3 * 16 * 6) * (2 * 4)]
    assert all(row.algorithm in ("im2col", "matmul") for row in rows)


def test_plans_of_other_layers_of_ours():
    """Convolutions of one row, and input gradients of what computes their input."""
    layer = nhwc_conv.Conv1d(64, 32, 3, 2, 1, 2, groups=2, algorithm="matmul")
    found = watching.plan_of(call(layer, (5, 64, 56), (5, 32, 27), 1), (32, 32, 3))
    steps = dict(stride=(1, 2), padding=(0, 1), dilation=(1, 2), groups=2)
    assert found == nhwc_conv.explain((5, 1, 56, 64), (1, 3, 32, 32), **steps, algorithm="matmul")
    layer = nhwc_conv.NWCConv1d(64, 32, 3, 2, (2, 1), 2, groups=2, algorithm="matmul")
    found = watching.plan_of(call(layer, (5, 56, 64), (5, 28, 32), 1), (3, 32, 32))
    steps["padding"] = 0, 0, 2, 1
    assert found == nhwc_conv.explain((5, 1, 56, 64), (1, 3, 32, 32), **steps, algorithm="matmul")
    layer = nhwc_conv.Conv1d(4, 4, 3, padding="same")
    assert watching.plan_of(call(layer, (4, 56), (4, 56), 1), (4, 4, 3))["algorithm"]
    steps = dict(stride=(2, 3), padding=(1, 0), dilation=(1, 1), groups=2)
    expected = nhwc_conv.explain((2, 13, 20, 12), (3, 4, 6, 8), **steps, direction="input_gradient")
    layer = nhwc_conv.ConvTranspose1d(8, 12, 4, 3, 1, dilation=2)
    out = tuple(layer(torch.zeros(2, 8, 9)).shape)
    row = dict(stride=(1, 3), padding=(0, 1), dilation=(1, 2), groups=1)
    found = watching.plan_of(call(layer, (2, 8, 9), out, 1), tuple(layer.weight.shape))
    expected_row = nhwc_conv.explain((2, 1, out[-1], 12), (1, 4, 12, 8), **row, direction="input_gradient")
    assert found == expected_row
    layer = nhwc_conv.NWCConvTranspose1d(8, 12, 4, 3, 1, dilation=2)
    found = watching.plan_of(call(layer, (2, 9, 8), (2, out[-1], 12), 1), tuple(layer.weight.shape))
    assert found == expected_row
    layer = nhwc_conv.ConvTranspose2d(8, 12, (3, 4), output_padding=(0, 1), **steps)
    assert layer(torch.zeros(2, 8, 7, 6)).shape == (2, 12, 13, 20)
    assert (
        watching.plan_of(call(layer, (2, 8, 7, 6), (2, 12, 13, 20), 1), tuple(layer.weight.shape)) == expected
    )
    layer = nhwc_conv.NHWCConvTranspose2d(8, 12, (3, 4), output_padding=(0, 1), **steps)
    steps = (2, 7, 6, 8), (2, 13, 20, 12)
    assert watching.plan_of(call(layer, *steps, 1), tuple(layer.weight.shape)) == expected
    assert (
        watching.plan_of(call(nn.Conv3d(1, 1, 1), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), 1), (1, 1, 1, 1, 1)) == {}
    )


def test_the_plan_is_that_of_the_layer(monkeypatch):
    layer = nhwc_conv.Conv2d(64, 64, 3, padding=1)
    found = watching.plan_of(call(layer, (1, 64, 56, 40), (1, 64, 56, 40), 1), (64, 64, 3, 3))
    assert found == nhwc_conv.explain((1, 56, 40, 64), (3, 3, 64, 64), padding=1)
    assert found["algorithm"] == "winograd"
    asked = []
    monkeypatch.setattr(watching, "explain", lambda *a, **k: asked.append((a, k)))
    layer = nhwc_conv.Conv2d(64, 32, (3, 1), (2, 1), "valid", (2, 1), 2, algorithm="matmul").double()
    watching.plan_of(call(layer, (64, 56, 40), (32, 26, 40), 1, torch.float64), (32, 32, 3, 1))
    shapes, steps = ((56, 40, 64), (3, 1, 32, 32)), ((2, 1), "valid", (2, 1), 2)
    assert asked == [((*shapes, *steps), dict(dtype=torch.float64, algorithm="matmul"))]


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "limit", "least"),
    [
        (512, 10, 1, "arithmetic", 2 * 100 * 512 * 512 / 1e10),
        (16, 10, 1, "memory", 4 * (2 * 100 * 16 + 16 * 16) / 2e9),
        (1, 2, 1, "overhead", 1e-6),
        (
            64,
            56,
            3,
            "arithmetic",
            2 * 56 * 56 * 64 * 64 * 9 / 4 / 1e10,
        ),  # Winograd: a quarter of the products
    ],
)
def test_what_limits_a_layer(channels, size, kernel, limit, least):
    layer, x = nhwc_conv.Conv2d(channels, channels, kernel, padding=kernel // 2), (1, channels, size, size)
    row = watching.row(tuple(call(layer, x, x, n * least) for n in (9, 2, 1)), Machine())
    assert row.seconds == 2 * least and row.limit == limit and row.share == pytest.approx(0.5)


def test_other_dtypes_have_no_limit():
    layer = nn.Conv2d(2, 2, 1, dtype=torch.complex64)
    row = watching.row((call(layer, (1, 2, 4, 4), (1, 2, 4, 4), 1e-3, torch.complex64),), Machine())
    assert (row.algorithm, row.limit, row.flops) == ("PyTorch", "", 2 * 32 * 2)


def test_hooks_of_a_layer_are_not_counted_and_ours_are_gone_afterwards(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watching.time, "perf_counter", lambda: now[0])

    class Slow(nn.Conv2d):
        def forward(self, x):
            now[0] += 3
            return super().forward(x)

    def hook(*_):
        now[0] += 100

    model = nn.Sequential(Slow(3, 4, 3))
    model[0].register_forward_pre_hook(hook)
    model[0].register_forward_hook(hook)
    found = watching.layer_times(model, torch.zeros(1, 3, 8, 8), 3, Machine())
    assert [row.seconds for row in found] == [3]
    assert len(model[0]._forward_hooks) == len(model[0]._forward_pre_hooks) == 1


def test_without_rows_the_reason_is_told():
    found = nhwc_conv.benchmark(nn.Linear(3, 4).eval(), torch.zeros(2, 3), **QUICK)
    assert found.layers == [] and "the example calls no layer that is a convolution" in found.layers_error
    assert "layers failed: RuntimeError: the example calls" in str(found)
    assert all(form.seconds for form in found.forms.values())


def test_calls_that_change_are_told():
    class Changing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.calls = nn.Conv2d(3, 3, 1), 0

        def forward(self, x):
            self.calls += 1
            for _ in range(self.calls):
                x = self.conv(x)
            return x

    with pytest.raises(RuntimeError, match="does not call the same convolutions every time"):
        watching.layer_times(Changing(), torch.zeros(1, 3, 4, 4), 2, Machine())


def test_limits_are_measured():
    machine = machines.Machine()
    one_thread = _extension.module.fma_peak("float64", 0.1) * 1e9
    ratio = machine.peak(torch.float64) / (one_thread * torch.get_num_threads())
    assert 0.1 < ratio < 10 and machine.peak(torch.float64) == machine.peak(torch.float64)
    assert 1e7 < machine.bandwidth(1 << 20) < 1e13
    assert machine.bandwidth((1 << 20) - 1) == machine.bandwidth(1 << 20)
    assert machine.bandwidth(0) == machine.bandwidth(1)
    assert 1e-7 < machine.overhead < 1e-2


def test_without_the_extension_they_are_refused(monkeypatch):
    monkeypatch.setattr(_extension, "module", None)
    monkeypatch.setattr(_extension, "reason", "it is not built")
    with pytest.raises(RuntimeError, match="layers=True .* there is none: it is not built"):
        nhwc_conv.benchmark(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), **QUICK)
