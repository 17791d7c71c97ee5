"""nhwc_conv.benchmark: what it finds, and that it leaves everything as it was."""

import contextlib
import copy
import time

import models
import pytest
import torch
from torch import nn

import nhwc_conv
from nhwc_conv import _extension
from nhwc_conv._benchmark import forms, public, timing
from nhwc_conv._benchmark.report import BenchmarkReport, FormTime

QUICK = dict(rounds=2, seconds=0, report=None)
NAMES = ["original, NCHW", "original, channels_last", "converted", "converted for inference"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.as_trained(models.SMALL["resnet_basic"]()).eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(1))


def test_it_times_every_form_and_says_so(model, x):
    shown = []
    found = nhwc_conv.benchmark(model, x, rounds=3, seconds=0, report=shown.append)
    assert shown == [found] and list(found.forms) == NAMES and not found.layers
    for form in found.forms.values():
        assert len(form.seconds) == 3 and min(form.seconds) > 0 and not form.error
        assert form.deviation <= form.tolerance
    assert found.forms["converted for inference"].deviation > 0  # folding rounds
    text = str(found)
    assert all(name in text for name in NAMES) and text.count("off by") == 4 and "  1.00x" in text
    assert f"threads: {torch.get_num_threads()}" in text and f"torch {torch.__version__}" in text


@pytest.mark.needs_extension
def test_kernels_are_counted_and_the_time_between_them(model, x):
    found = nhwc_conv.benchmark(model, x, **QUICK)
    count = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    counts = [0, 0, count, count + 3]  # with its pooling, its means over pixels and its Linear
    assert [form.kernels for form in found.forms.values()] == counts
    for form, number in zip(found.forms.values(), counts, strict=True):
        assert 0 <= form.between * number < 10 * max(form.seconds) and (form.between > 0) == (number > 0)
        assert not number or f"{number} kernels, {1e6 * form.between:.1f} us apart" in str(found)
    assert str(found).count("us apart") == 2


@pytest.mark.needs_extension
def test_only_what_runs_while_watched_is_counted():
    x, w = torch.randn(1, 40, 40, 16), torch.randn(3, 3, 16, 32, requires_grad=True)
    ops = torch.ops.nhwc_conv
    start = time.perf_counter()
    with _extension.module.watched_kernels() as so_far:
        assert so_far() == (0, 0)
        ops.conv2d(x, w.detach())
        passes, forward = so_far()
        assert passes == 1 and forward > 0
        ops.matmul(x.clone().requires_grad_(), w).sum().backward()
        passes, seconds = so_far()
        assert passes == 4 and forward < seconds < time.perf_counter() - start
    ops.conv2d(x, w.detach())
    with _extension.module.watched_kernels() as so_far:
        assert so_far() == (0, 0)


def test_it_prints_unless_told_otherwise(model, x, capsys):
    found = nhwc_conv.benchmark(model, x, rounds=1, seconds=0)
    assert capsys.readouterr().out == f"{found}\n"
    nhwc_conv.benchmark(model, x, **QUICK)
    assert capsys.readouterr().out == ""


def test_figures_are_medians_and_ratios_to_the_faster_original():
    times = dict(zip(NAMES, ([5.0, 2.0, 2.0], [1.0, 4.0, 9.0], [1.0, 1.0, 8.0]), strict=False))
    found = BenchmarkReport("here", {name: FormTime(seconds) for name, seconds in times.items()})
    assert found.baseline == NAMES[0] and found.forms[NAMES[1]].median == 4
    assert [found.speed_up(name) for name in NAMES[:3]] == [1, 0.5, 2]
    found.forms[NAMES[0]] = FormTime(error="KeyError: 'lost'")
    assert found.baseline == NAMES[1] and found.speed_up(NAMES[2]) == 4
    assert "failed: KeyError: 'lost'" in str(found)
    with pytest.raises(ValueError, match="of a form that failed: KeyError: 'lost'"):
        found.speed_up(NAMES[0])
    found.forms[NAMES[1]] = FormTime(error="lost too")
    assert found.baseline is None and "x  " not in str(found)
    with pytest.raises(ValueError, match="both originals failed"):
        found.speed_up(NAMES[2])


def test_forms_take_turns(monkeypatch):
    """Where one form is slow for a while, all are."""
    now, order = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def contender(name, seconds):
        def function(x):
            now[0] += seconds
            order.append(name)

        return timing.Contender(function, torch.zeros(1), FormTime())

    contenders = [contender("a", 2.0), contender("b", 5.0)]
    timing.by_turns(contenders, 3, 10.0)
    assert contenders[0].found.seconds == [2.0] * 3 and contenders[1].found.seconds == [5.0] * 3
    # Two calls to see how long one takes; then one that is not counted before those that are.
    assert "".join(order) == "aabb" + ("a" * 6 + "b" * 3) * 3


def test_what_a_model_writes_to_its_input_does_not_add_up():
    """Numbers halved over and over would become subnormal, and slow."""
    seen = []

    def halves(x):
        seen.append(x.item())
        x.mul_(0.5)

    timing.by_turns([timing.Contender(halves, torch.ones(1), FormTime())], 3, 0)
    assert seen == [1, 0.5] * 4


class Square(nn.Module):
    """Writes to its input and to a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.conv(x.mul_(0.5))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_model_and_example_stay_as_they_are(x, memory_format):
    model = nn.Sequential(Square(), nn.BatchNorm2d(4), nn.ReLU()).eval().to(memory_format=memory_format)
    model[0].conv.weight.requires_grad_(False)
    x = x.contiguous(memory_format=memory_format)
    before = copy.deepcopy(model.state_dict()), x.clone(), x.stride()
    tensors = {**model.state_dict(keep_vars=True)}
    found = nhwc_conv.benchmark(model, x, **QUICK)
    assert not any(found.forms[name].error for name in NAMES[:3])
    after = model.state_dict(keep_vars=True)
    for name, tensor in before[0].items():
        assert after[name] is tensors[name]
        assert torch.equal(after[name], tensor) and after[name].stride() == tensor.stride()
    assert torch.equal(x, before[1]) and x.stride() == before[2]
    assert [type(m) for m in model.modules()] == [
        nn.Sequential, Square, nn.Conv2d, nn.BatchNorm2d, nn.ReLU,
    ]  # fmt: skip
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    "mode", [contextlib.nullcontext, torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__
)
def test_no_state_of_the_process_changes(model, x, mode):
    seen = set()

    class Noise(nn.Module):
        def forward(self, x):
            seen.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            return x + torch.rand(())

    def state():
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_num_threads()
        return *modes, torch.get_default_dtype(), torch.get_rng_state().tolist()

    with mode():
        before = state()
        found = nhwc_conv.benchmark(nn.Sequential(Noise(), model).eval(), x, **QUICK)
        assert state() == before
    assert seen == {(False, False)}  # the same figures, whatever mode the caller is in
    assert not any(form.error for form in found.forms.values())


def test_examples_of_every_kind(model, x):
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, image, scale=1.0):
            return {"out": self.inner(image) * scale}

    with_history = x.clone().requires_grad_() * 1
    for wrapped, example in (
        (model, (with_history,)), (Keyword(), {"image": x, "scale": 0.5}), (Keyword(), (x, torch.ones(())))
    ):  # fmt: skip
        found = nhwc_conv.benchmark(wrapped.eval(), example, **QUICK)
        assert not any(form.error for form in found.forms.values())


def test_tensors_without_a_memory_format(x):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.deep = nn.Conv2d(3, 4, 3), nn.Conv3d(4, 4, 1)
            self.register_buffer("mixing", torch.eye(4).to_sparse())

        def forward(self, x):
            y = torch.einsum("oc,nchw->nohw", self.mixing.to_dense(), self.conv(x))
            return self.deep(y.unsqueeze(2))

    found = nhwc_conv.benchmark(Mixed().eval(), x, **QUICK)
    assert [form.error for form in found.forms.values()] == [""] * 4


def test_a_form_that_is_wrong_is_a_row_that_says_so(model, x, monkeypatch):
    def wrong(model, example):
        with torch.no_grad():
            next(model.parameters())[0, 0, 0, 0] += 0.01
        return model, ""

    monkeypatch.setitem(public.EAGER, "converted", forms.Form(wrong, forms.contiguous))
    found = nhwc_conv.benchmark(model, x, **QUICK)
    assert found.forms["converted"].error.startswith("this form's result is off by")
    assert not found.forms["converted"].seconds
    assert all(form.seconds for name, form in found.forms.items() if name != "converted")


def test_a_form_that_raises_is_a_row_that_says_so(model, x, monkeypatch):
    def fails(graph, inputs):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(forms, "compile_backend", fails)
    name = "original, backend nhwc_conv"
    monkeypatch.setattr(public, "COMPILED", {name: forms.COMPILED[name]})
    torch._dynamo.reset()
    found = nhwc_conv.benchmark(model, x, compiled=True, **QUICK)
    assert found.forms[name].error == "RuntimeError: no compiler"
    assert "failed: " in str(found)
    assert all(found.forms[name].seconds for name in NAMES)


def test_a_form_that_fails_late_is_a_row_that_says_so():
    calls = []

    def fails(x):
        calls.append(x)
        if len(calls) == 5:
            raise MemoryError("too much")

    contenders = [timing.Contender(f, torch.zeros(1), FormTime()) for f in (fails, torch.neg)]
    timing.by_turns(contenders, 3, 0)
    assert contenders[0].found.error == "MemoryError: too much" and contenders[0].found.seconds == []
    assert len(calls) == 5 and len(contenders[1].found.seconds) == 3


def test_a_fallback_of_convert_is_noted(model, x, monkeypatch):
    from nhwc_conv._convert import public as converting

    monkeypatch.setattr(converting, "Calls", None)  # no graph can be made
    found = nhwc_conv.benchmark(model, x, **QUICK)
    assert found.forms["converted for inference"].note.startswith("nothing is folded or fused, since")
    assert "; nothing is folded" in str(found)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_compiled(x):
    """By Inductor, whose time is that of its C++ compiler."""
    torch._dynamo.reset()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    found = nhwc_conv.benchmark(model, x, compiled=True, **QUICK)
    assert list(found.forms) == [*NAMES, *forms.COMPILED] and len(forms.COMPILED) == 3
    assert {name: form.error for name, form in found.forms.items() if form.error} == {}


@pytest.mark.needs_extension
@pytest.mark.parametrize("layers", [False, True])
def test_a_picture(model, x, tmp_path, layers):
    pytest.importorskip("matplotlib")
    sizes = []
    for name in ("first.png", "second.svg"):
        nhwc_conv.benchmark(model, x, layers=layers, picture=tmp_path / name, **QUICK)
        sizes.append((tmp_path / name).read_bytes())
    assert sizes[0].startswith(b"\x89PNG") and b"<svg" in sizes[1]
    assert (b"limited by" in sizes[1]) == layers
