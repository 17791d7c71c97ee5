"""torch.compile(model, backend="nhwc_conv") in a second process, which finds on disk what the first one compiled."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

START = """
import json, sys
import torch
from torch import nn
from torch._dynamo.utils import counters

import nhwc_conv

freezing, *kinds = json.loads(sys.argv[1])
torch._inductor.config.freezing = freezing
found = []
for step, dynamic in kinds:
    torch.manual_seed(0)
    # Without bias and in channels_last: nothing is left for a C++ compiler.
    model = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, bias=False), nn.Conv2d(16, 16, 3, padding="same", bias=False))
    model = model.to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(model, backend=nhwc_conv.compile_backend, dynamic=dynamic)
    x = torch.randn(2, 3, 12, 14).contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(step):
        y = compiled(x)
        if step:
            y.sum().backward()
        gradients = [p.grad.clone() for p in model.parameters() if step]
        expected = model(x)
        model.zero_grad()
        if step:
            expected.sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients, [p.grad for p in model.parameters() if step], rtol=1e-4, atol=1e-4)
    kept = {name: n for parts in counters.values() for name, n in parts.items() if "_cache_" in name}
    found.append(kept)
print(json.dumps(found))
"""
TRAINING, DYNAMIC, INFERENCE = (True, False), (False, True), (False, False)


@pytest.fixture
def start(tmp_path):
    """Compiles and calls a small network in a new process, for each kind anew: what became of PyTorch's caches."""

    def run(*kinds, freezing=False, **environment):
        paths = dict(PYTHONPATH=str(ROOT), TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
        done = subprocess.run(
            [sys.executable, "-c", START, json.dumps([freezing, *kinds])],
            env={**os.environ, **paths, **environment}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_second_start_compiles_nothing(start):
    kinds = TRAINING, DYNAMIC
    # Nor is the backward pass of a process without Winograd one for others.
    starts = start(*kinds), start(*kinds), start(*kinds, NHWC_CONV_WINOGRAD="0")
    for (step, _), first, second, other in zip(kinds, *starts, strict=True):
        graphs = 1 + step
        assert first == {"autograd_cache_miss": 1, "autograd_cache_saved": 1, "fxgraph_cache_miss": graphs}
        assert second == {"autograd_cache_hit": 1, "fxgraph_cache_hit": graphs}
        assert other == first


@pytest.mark.needs_extension
def test_a_frozen_graph_serves_every_instruction_set(start):
    """Constants are not kept with it: each process packs its own."""
    from nhwc_conv._extension import module as extension

    first, *_, last = 2 * extension.instruction_sets()
    found = [start(INFERENCE, freezing=True, NHWC_CONV_ISA=isa) for isa in (first, last)]
    assert [kept for (kept,) in found] == [
        {"autograd_cache_bypass": 1, f"fxgraph_cache_{what}": 1} for what in ("miss", "hit")
    ]
