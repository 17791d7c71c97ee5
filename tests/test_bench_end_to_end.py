"""bench/end_to_end.py on small networks: what it writes, and that a wrong network stops it."""

import json
import statistics

import models
import pytest
import torch
from conftest import ROOT

import nhwc_conv

pytestmark = pytest.mark.needs_extension


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import end_to_end

    small = models.SMALL["resnet_basic"]
    workloads = {"small, training": (small, 2, True), "small, inference": (small, 1, False)}
    monkeypatch.setattr(end_to_end, "WORKLOADS", workloads)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["end_to_end.py", "--smoke", *arguments])
        end_to_end.main()

    return run


def test_it_writes_ratios_of_medians(bench, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    bench("--out", str(tmp_path / "folder" / "result.json"))
    data = json.loads((tmp_path / "folder" / "result.json").read_text())
    assert "64x64" in data["machine"] and f"torch {torch.__version__}" in data["machine"]
    found = {workload: list(by_name) for workload, by_name in data["workloads"].items()}
    assert found == {
        "small, training": ["original", "converted"],
        "small, inference": ["original", "prepacked", "folded"],
    }
    for by_name in data["workloads"].values():
        original = statistics.median(by_name["original"]["seconds"])
        for values in by_name.values():
            assert len(values["seconds"]) == 2 and values["median"] == statistics.median(values["seconds"])
            assert values["speed_up"] == original / values["median"]
    assert (tmp_path / "folder" / "result.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("1.00x") >= 2


@pytest.mark.parametrize("workload", ["training", "inference"])
def test_a_wrong_network_stops_it(bench, workload, monkeypatch):
    right = nhwc_conv.convert

    def wrong(model, **options):
        model = right(model, **options)
        with torch.no_grad():
            next(model.parameters())[0, 0, 0, 0] += 0.01
        return model

    monkeypatch.setattr(nhwc_conv, "convert", wrong)
    with pytest.raises((SystemExit, RuntimeError), match="more than rounding|rounding explains"):
        bench("--only", workload)


def test_an_unknown_workload(bench, capsys):
    with pytest.raises(SystemExit):
        bench("--only", "VGG")
    assert "no workload is called 'VGG'" in capsys.readouterr().err
