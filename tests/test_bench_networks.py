"""bench/networks.py on small networks: what it writes, whom it leaves out, and that wrong answers stop it."""

import importlib.util
import json
import statistics
import sys
from types import SimpleNamespace

import models
import pytest
import torch
from conftest import ROOT

import nhwc_conv

pytestmark = pytest.mark.needs_extension
EAGER = ["eager, NCHW", "eager, channels_last"]
INFERENCE = [*EAGER, "converted", "prepacked", "converted for inference"]
TRAINING, SERVING = "ResNet-18, training step, 2x64x64", "ResNet-18, inference, 2x64x64"


@pytest.fixture
def bench(monkeypatch, threads):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import network_contenders
    import networks

    def is_installed(name):
        return None if name in ("onnxruntime", "openvino") else importlib.util.find_spec(name)

    util = SimpleNamespace(util=SimpleNamespace(find_spec=is_installed))
    monkeypatch.setattr(network_contenders, "importlib", util)
    monkeypatch.setitem(networks.NETWORKS, "ResNet-18", models.SMALL["resnet_basic"])
    workloads = [networks.Workload("ResNet-18", 1, 224), networks.Workload("ResNet-18", 2, 48, trains=True)]
    monkeypatch.setattr(networks, "WORKLOADS", workloads)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["networks.py", "--smoke", *arguments])
        networks.main()

    return SimpleNamespace(run=run, networks=networks, contenders=network_contenders)


def test_it_writes_ratios_of_medians_to_the_better_layout(bench, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    bench.run("--out", str(tmp_path / "folder" / "result.json"))
    data = json.loads((tmp_path / "folder" / "result.json").read_text())
    assert "threads: 1, float32" in data["machine"] and f"torch {torch.__version__}" in data["machine"]
    found = {workload: list(by_name) for workload, by_name in data["workloads"].items()}
    assert found == {SERVING: INFERENCE, TRAINING: [*EAGER, "converted"]}
    for by_name in data["workloads"].values():
        eager = min(statistics.median(by_name[name]["seconds"]) for name in EAGER)
        for values in by_name.values():
            assert len(values["seconds"]) == 2 and values["median"] == statistics.median(values["seconds"])
            assert values["speed_up"] == eager / values["median"]
            assert 0 < values["error"] < 1e-4
    assert (tmp_path / "folder" / "result.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert out.count(" 1.00x") >= 2 and out.count("off by") == 8
    for text in data["left_out"]:
        assert f"left out: {text}" in out


def test_threads(bench, capsys):
    bench.run("--only", "inference", "--threads", "2")
    assert torch.get_num_threads() == 2 and "threads: 2" in capsys.readouterr().out


def test_models_of_timm(bench, capsys, monkeypatch):
    def create_model(name):
        model = models.SMALL["resnet_basic"]()
        model.default_cfg = dict(input_size=(3, 48, 40))
        return model

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    bench.run("--timm", "tiny")
    out = capsys.readouterr().out
    assert "tiny, inference, 2x64x64" in out and "ResNet" not in out and "converted for inference" in out


def test_who_is_left_out_is_told(bench, capsys):
    bench.run("--only", "inference")
    out = capsys.readouterr().out
    assert "left out: ONNX Runtime: not installed (onnxruntime" in out
    assert "left out: OpenVINO: not installed (openvino" in out
    assert "backend nhwc_conv; converted for inference, Inductor: only with --compiled" in out
    found, left_out = bench.contenders.chosen(False, torch.float64, True)
    assert {"Inductor", "backend nhwc_conv"} < set(found) and "OpenVINO" not in found
    assert left_out == ["ONNX Runtime: timed in float32 alone", "OpenVINO: timed in float32 alone"]
    assert bench.contenders.chosen(True, torch.float32, True) == (bench.contenders.TRAINING, [])


@pytest.mark.parametrize("workload", ["training", "inference"])
def test_a_wrong_network_stops_it(bench, workload, monkeypatch):
    right = nhwc_conv.convert

    def wrong(model, **options):
        model = right(model, **options)
        with torch.no_grad():
            next(model.parameters())[0, 0, 0, 0] += 0.01
        return model

    monkeypatch.setattr(nhwc_conv, "convert", wrong)
    with pytest.raises(SystemExit, match="converted: Deviation: .* off by .* but rounding explains"):
        bench.run("--only", workload)


def test_a_rival_that_is_wrong_or_fails_is_a_row_that_says_so(bench, monkeypatch, capsys, tmp_path):
    def fails(task):
        raise KeyError("lost")

    def wrong(task):
        return (lambda x: task.model(x) * 1.001), task.x

    monkeypatch.setattr(bench.contenders, "PACKAGES", {})
    monkeypatch.setitem(bench.contenders.INFERENCE, "ONNX Runtime", fails)
    monkeypatch.setitem(bench.contenders.INFERENCE, "OpenVINO", wrong)
    bench.run("--only", "inference")
    rows = {line.partition("  ")[0]: line for line in map(str.strip, capsys.readouterr().out.splitlines())}
    assert rows["ONNX Runtime"].endswith("failed: KeyError: 'lost'")
    assert "failed: Deviation: the contender's result is off by" in rows["OpenVINO"]
    assert "x  off by" in rows["prepacked"]


def test_gradients_are_those_of_the_network(bench, monkeypatch):
    """The smooth twin has the network's convolutions, and a gradient that is off by 1 % does not pass."""
    task = bench.contenders.Training(models.SMALL["u_net"], 2, 32, torch.float32, None)
    assert not any(isinstance(m, torch.nn.ReLU | torch.nn.MaxPool2d) for m in task.smooth.modules())
    assert any(isinstance(m, torch.nn.ReLU) for m in task.model.modules())
    step, error = task.prepare(bench.contenders.TRAINING["converted"])
    assert 0 < error <= task.limit
    before = [p.clone() for p in task.model.parameters()]
    step()
    assert all(map(torch.equal, task.model.parameters(), before))  # a copy is trained
    right = bench.contenders.gradients
    monkeypatch.setattr(bench.contenders, "gradients", lambda *a: [1.01 * right(*a)[0], *right(*a)[1:]])
    with pytest.raises(bench.contenders.Deviation, match="gradients are off by 0.01"):
        task.prepare(bench.contenders.TRAINING["converted"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_in_other_dtypes(bench, dtype):
    task = bench.contenders.Training(models.SMALL["resnet_basic"], 2, 32, dtype, None)
    for name in (*EAGER, "converted"):
        _, error = task.prepare(bench.contenders.TRAINING[name])
        assert error <= task.limit and 0 < task.limit < 100 * torch.finfo(dtype).eps * bench.contenders.SAFETY


def test_gradients_that_cancel_are_held_against_the_others(bench):
    """What a BatchNorm adds, the next one takes away: its exact gradient is rounding alone."""
    task = bench.contenders.Training(models.SMALL["mobilenet_v2"], 2, 32, torch.float32, None)
    norms = [g.norm() for g in task.exact]
    assert min(norms) < 1e-12 * max(norms)
    assert 0 < task.error(task.smooth, task.x) < 1e-3


def test_a_step_changes_every_parameter(bench):
    model = models.SMALL["resnet_basic"]().train()
    before = [p.clone() for p in model.parameters()]
    bench.contenders.training_step(model, torch.randn(2, 3, 32, 32))()
    assert not any(map(torch.equal, model.parameters(), before))


def test_workloads_are_what_the_options_say(bench):
    options = bench.networks.parse(["--batch", "4", "--size", "96", "--only", "inference"])
    ((name, workload),) = bench.networks.workloads(options).items()
    assert name == "ResNet-18, inference, 4x96x96" and (workload.batch, workload.size) == (4, 96)


def test_the_workloads(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import networks

    names = set(networks.workloads(networks.parse([])))
    assert {name for name in names if "training" in name} == {
        f"{network}, training step, {size}"
        for network in ("ResNet-18", "ResNet-50", "MobileNetV2", "U-Net")
        for size in ("8x64x64", "2x224x224")
    }
    sizes = {"U-Net": 256, "EDSR-small": 128}
    assert {name for name in names if "inference" in name} == {
        f"{network}, inference, 1x{sizes.get(network, 224)}x{sizes.get(network, 224)}"
        for network in (
            "ResNet-18", "ResNet-50", "MobileNetV2", "EfficientNet-B0", "ConvNeXt-T", "U-Net", "EDSR-small",
        )
    }  # fmt: skip


def test_an_unknown_workload(bench, capsys):
    with pytest.raises(SystemExit):
        bench.run("--only", "VGG")
    assert "no workload is called 'VGG'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ONNX Runtime", "OpenVINO"])
@pytest.mark.filterwarnings("ignore")  # of torch.onnx and the packages
def test_rivals(bench, name, tmp_path):
    for package in bench.contenders.PACKAGES[name]:
        pytest.importorskip(package)
    task = bench.contenders.Inference(models.SMALL["mobilenet_v2"], 2, 32, torch.float32, tmp_path)
    function, error = task.prepare(bench.contenders.INFERENCE[name])
    assert 0 < error < 1e-5 and function().shape == (2, 5)
