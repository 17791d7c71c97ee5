"""DTensors in two processes over gloo: layers and ops on shards against one process with the whole."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from conftest import ROOT
from torch import nn

import nhwc_conv
from nhwc_conv import NHWCConv2d, NHWCConvTranspose2d

pytestmark = [
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]
ops = torch.ops.nhwc_conv


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down = NHWCConv2d(3, 4, 3, stride=2, padding="same")
        self.middle = nhwc_conv.convert(
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 6, 1))
        )
        self.up = NHWCConvTranspose2d(6, 2, 3, stride=2, padding="same")
        self.double()

    def forward(self, x):
        x = self.middle(self.down(x).relu().permute(0, 3, 1, 2)).relu()
        return self.up(x.permute(0, 2, 3, 1))


def integers(*shape):
    """Of which every sum here is exact, in any order."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).double()


X, W, GRAD, BIAS = integers(4, 7, 6, 4), integers(3, 2, 4, 6), integers(4, 5, 5, 6), integers(6)
GROUPED, DEPTHWISE = integers(3, 2, 2, 6), integers(3, 3, 1, 8)


def passed_on(rank):
    """Whole forward and backward passes of a model on its shard of the batch: of four images, then three."""
    from torch.distributed.tensor import Partial, Replicate, Shard, distribute_module, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    results = {}
    for batch in (4, 3):
        model = distribute_module(Model(), mesh)
        x = distribute_tensor(integers(batch, 9, 8, 3), mesh, [Shard(0)]).requires_grad_()
        out = model(x)
        assert out.placements == (Shard(0),), out
        out.pow(2).mean().backward()
        assert x.grad.placements == (Shard(0),)
        assert all(p.placements == (Replicate(),) for p in model.parameters())
        assert all(p.grad.placements == (Partial(),) for p in model.parameters())
        gradients = {name: p.grad.full_tensor() for name, p in model.named_parameters()}
        results[batch] = out.detach().full_tensor(), x.grad.full_tensor(), gradients
    return results


def computed(rank):
    """[(name, placements of the result, the whole of it)] of single ops."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))

    def place(t, dim):
        return distribute_tensor(t, mesh, [Replicate() if dim is None else Shard(dim)])

    results = []
    for name, op, tensors, rest in calls():
        for dims in SHARDED[op]:
            placed = [t if t is None else place(t, dim) for t, dim in zip(tensors, dims, strict=True)]
            out = getattr(ops, op)(*placed, *rest)
            assert isinstance(out, DTensor)
            whole = out.full_tensor()
            assert out.shape == whole.shape, (name, dims, out.shape)  # what DTensor remembers of a call
            results.append(((name, dims), str(out.placements[0]), whole))
    x, w = place(X, 0), place(W, None)
    with torch.no_grad():
        packed = DTensor.from_local(ops.pack_weight(W), mesh, [Replicate()])
        out = ops.conv2d_packed(x, packed, W.shape, place(BIAS, None))
        results.append((("conv2d_packed", (0, None)), str(out.placements[0]), out.full_tensor()))
    with torch.inference_mode():
        results.append((("inference", (0, None)), "S(0)", ops.conv2d(x, w).full_tensor()))
    return results


# Which dimensions the first tensors are sharded along.
SHARDED = {
    "conv2d": [(0, None, None), (None, 3, 0), (1, 0, None), (-1, 2, None)],
    "im2col": [(0, None, None), (3, 2, None)],
    "conv2d_input": [(0, None), (None, 2), (3, 3), (1, 1)],
    "conv2d_weight": [(0, 0), (3, None), (None, 3), (2, 1)],
}


def calls():
    """(name, op, tensors, other arguments). Strides follow one another on the same shapes."""
    return [
        ("bias", "conv2d", (X, W, BIAS), ()),
        ("stride", "conv2d", (X, W, BIAS), ((2, 1),)),
        ("another stride", "conv2d", (X, W, BIAS), ((1, 2),)),
        ("padding", "conv2d", (X, W, BIAS), ((2, 1), (1, 0))),
        ("groups", "conv2d", (X, GROUPED, BIAS), ((1, 1), (0, 0), (1, 1), 2)),
        ("unbatched", "conv2d", (X[0], W, BIAS), ()),
        ("sum", "im2col", (X, W, None), ()),
        ("depthwise", "im2col", (integers(2, 5, 5, 8), DEPTHWISE, None), (1, 1, 1, 8)),
        ("input", "conv2d_input", (GRAD, W), ((7, 6),)),
        ("input of another size", "conv2d_input", (GRAD, W), ((9, 6), (2, 1), (1, 0))),
        ("weight", "conv2d_weight", (GRAD, X), ((3, 2),)),
        ("weight of another size", "conv2d_weight", (GRAD, X), ((2, 2), (1, 1), (0, 0), (2, 1), 2, 0)),
    ]


def process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        results = passed_on(rank), computed(rank)
        if rank == 0:
            torch.save(results, f"{folder}/results.pt")
    finally:
        dist.destroy_process_group()
    os._exit(0)  # as in test_distributed.py


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dtensor")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return torch.load(folder / "results.pt")


def test_a_model_on_shards_of_the_batch(results):
    for batch, (out, dx, gradients) in results[0].items():
        model, x = Model(), integers(batch, 9, 8, 3).requires_grad_()
        expected = model(x)
        expected.pow(2).mean().backward()
        assert torch.equal(out, expected)  # the bits of an image alone are those in a batch
        torch.testing.assert_close(dx, x.grad)
        torch.testing.assert_close(gradients, {name: p.grad for name, p in model.named_parameters()})


def test_ops_on_shards(results):
    found = {name: (placement, out) for name, placement, out in results[1]}
    for name, op, tensors, rest in calls():
        expected = getattr(ops, op)(*tensors, *rest)
        for dims in SHARDED[op]:
            assert torch.equal(found[name, dims][1], expected), (name, dims)
    for name, bias in (("conv2d_packed", BIAS), ("inference", None)):
        assert torch.equal(found[name, (0, None)][1], ops.conv2d(X, W, bias)), name
    assert {
        name: found[name][0]
        for name in [
            ("bias", (0, None, None)), ("bias", (None, 3, 0)), ("sum", (3, 2, None)), ("conv2d_packed", (0, None)),
            ("input", (0, None)), ("input", (None, 2)), ("input", (3, 3)),
            ("weight", (0, 0)), ("weight", (3, None)), ("weight", (None, 3)),
        ]
    } == {
        ("bias", (0, None, None)): "S(0)", ("bias", (None, 3, 0)): "S(3)", ("sum", (3, 2, None)): "P(sum)",
        ("conv2d_packed", (0, None)): "S(0)",
        ("input", (0, None)): "S(0)", ("input", (None, 2)): "S(3)", ("input", (3, 3)): "P(sum)",
        ("weight", (0, 0)): "P(sum)", ("weight", (3, None)): "S(3)", ("weight", (None, 3)): "S(2)",
    }  # fmt: skip


NOT_YET = "import nhwc_conv, sys; assert 'torch.distributed.tensor' not in sys.modules; "
ORDERS = {
    "ours": NOT_YET + "import torch.distributed.tensor",
    "theirs": "import torch.distributed.tensor, nhwc_conv",
    "a module of theirs": NOT_YET + "import torch.distributed.tensor.parallel",
}
KNOWN = """
import torch, torch.distributed.tensor as theirs
known = theirs.DTensor._op_dispatcher.sharding_propagator.op_strategy_funcs
names = "conv2d", "im2col", "matmul", "winograd", "conv2d_input", "conv2d_weight", "conv2d_packed"
print([name for name in names if getattr(torch.ops.nhwc_conv, name).default not in known])
"""


@pytest.mark.parametrize("first", ORDERS)
def test_registered_when_dtensor_is_imported(first):
    done = subprocess.run(
        [sys.executable, "-c", ORDERS[first] + KNOWN], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.stdout == "[]\n", done.stderr
