"""bench/siblings.py: its table, what it prints, and that no wrong result is timed."""

import copy

import pytest
import torch
from conftest import ROOT

pytestmark = pytest.mark.needs_extension
PASSES = pytest.mark.parametrize("pass_", ["forward", "train"])
QUICK = ["--rounds", "1", "--seconds", "0"]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import siblings

    threads = torch.get_num_threads()
    yield siblings
    torch.set_num_threads(threads)


def test_the_table(bench):
    rows = bench.LAYERS
    assert len(rows) == len({row.name for row in rows}) >= 20
    assert {row.cls for row in rows} == {"Conv1d", "ConvTranspose1d", "ConvTranspose2d"}
    for row in rows:
        layer = row.make()
        assert (layer.in_channels, layer.out_channels) == row.channels
        x = torch.zeros(row.x[0], row.channels[0], *row.x[1:], device="meta")
        assert layer.to("meta")(x).numel() > 0


@PASSES
def test_a_run(bench, pass_, monkeypatch, capsys):
    arguments = [*QUICK, "--pass", pass_, "--layers", "wav2vec2 199|encodec 75|fcn 16"]
    monkeypatch.setattr("sys.argv", ["siblings.py", *arguments])
    bench.main()
    head, _, *rows, mean, lowest = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{pass_} float32, 1 thread, ") and len(rows) == 3
    cells = [[float(cell.removesuffix("x")) for cell in row.split()[-6:]] for row in rows]
    for ours, ratio, place in ((0, 1, -2), (2, 3, -1)):
        assert float(lowest.split()[place].removesuffix("x")) == min(row[ratio] for row in cells)
        for row in cells:
            assert row[ratio] == pytest.approx(min(row[4:]) / row[ours], rel=0.05, abs=0.01)
    assert mean.startswith("geometric mean")


@PASSES
@pytest.mark.parametrize("name", ["drop-in", "nhwc", "contiguous", "channels_last"])
@pytest.mark.parametrize("row", ["conv1d", "up2d"])
def test_wrong_results_are_not_timed(bench, pass_, name, row, monkeypatch):
    forms = bench.forms
    tiny = getattr(bench, row)("tiny", 4, 6, 3, size=9, stride=2)
    assert set(bench.seconds(tiny, torch.float32, pass_, 1, 0)) == set(forms(tiny.make()))

    def with_a_fault(theirs):
        found = forms(theirs)
        found[name].layer = copy.deepcopy(found[name].layer)  # of its own weight
        with torch.no_grad():
            found[name].layer.weight.mul_(1.001)
        return found

    monkeypatch.setattr(bench, "forms", with_a_fault)
    with pytest.raises(AssertionError, match="are off"):
        bench.seconds(tiny, torch.float32, pass_, 1, 0)


@pytest.mark.parametrize("part", [1, 2, 3])
def test_wrong_gradients_are_not_timed(bench, part, monkeypatch):
    runner = bench.runner

    def with_a_fault(*arguments):
        step = runner(*arguments)
        if arguments[0].take(torch.zeros(())).dtype == torch.float64:
            return step  # the answers
        return lambda: tuple(t * (1.001 if i == part else 1) for i, t in enumerate(step()))

    monkeypatch.setattr(bench, "runner", with_a_fault)
    with pytest.raises(AssertionError, match="are off"):
        bench.seconds(bench.up1d("tiny", 4, 6, 3, size=9, stride=2), torch.float32, "train", 1, 0)


def test_other_passes_are_refused(bench, monkeypatch):
    monkeypatch.setattr("sys.argv", ["siblings.py", "--pass", "weight_gradient"])
    with pytest.raises(SystemExit):
        bench.main()
