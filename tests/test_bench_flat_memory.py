"""bench/flat_memory.py: that it sees what is kept, and that nothing is kept here."""

import sys

import pytest
import torch
from conftest import ROOT

pytestmark = [
    pytest.mark.needs_extension,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and asks glibc to give memory back"),
]


@pytest.fixture
def bench(monkeypatch, threads):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import flat_memory

    return flat_memory


def test_what_is_kept_is_seen(bench, monkeypatch):
    seen = []

    def keeps(x, weight, padding):
        seen.append((tuple(x.shape), torch.zeros(2**18).fill_(1)))  # 1 MiB
        return x * weight

    layer = keeps, torch.ones(1), lambda h, w: torch.ones(1, h, w, 1)
    monkeypatch.setattr(bench, "layer", lambda who, channels: layer)
    assert 44 * 2**20 > bench.growth("ours", True, 41, 1) > 39 * 2**20
    shapes = {shape for shape, _ in seen}
    assert len(shapes) == 41 + 1 and max(shapes) == seen[0][0]


def test_nothing_is_kept_here(bench):
    arguments = "--one", "ours", "training", "--sizes", 100, "--channels", 8
    assert abs(bench.from_own_process(bench.__file__, *arguments)) < 2**19


@pytest.mark.parametrize("who", ["channels_last", "contiguous_format"])
def test_contenders_compute_the_same(bench, who):
    conv2d, weight, image = bench.layer(who, 4)
    ours, _, ours_image = bench.layer("ours", 4)
    assert image(6, 7).is_contiguous(memory_format=getattr(torch, who))
    y = ours(ours_image(6, 7), weight.permute(2, 3, 1, 0), padding=1)
    torch.testing.assert_close(conv2d(image(6, 7), weight, padding=1), y.permute(0, 3, 1, 2))
