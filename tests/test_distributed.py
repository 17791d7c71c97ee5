"""Processes over gloo: DistributedDataParallel bit for bit, fully_shard (FSDP2), and what prepack leaves there."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d, NHWCConvTranspose2d

pytestmark = [
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]
STEPS = 2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down = NHWCConv2d(3, 4, 3, stride=2, padding="same")
        self.depthwise = Conv2d(4, 4, 3, padding=1, groups=4)
        self.up = NHWCConvTranspose2d(4, 2, 3, stride=2, padding="same")
        self.double()

    def forward(self, x):
        x = self.depthwise(self.down(x).relu().permute(0, 3, 1, 2)).relu()
        return self.up(x.permute(0, 2, 3, 1)).pow(2).mean()


def half_batch(rank, step):
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(4, 9, 8, 3, generator=generator, dtype=torch.float64)


def train(rank, wrap):
    model = Model()
    wrapped = wrap(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        wrapped(half_batch(rank, step)).backward()
        optimizer.step()
    return model


def sharded(model):
    from torch.distributed.fsdp import fully_shard

    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for layer in model.children():
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def process(rank, folder):
    """One of two; the first one saves what the models have become."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        replicated = train(rank, nn.parallel.DistributedDataParallel)
        shards = train(rank, sharded).named_parameters()
        results = {
            "DDP": {n: p.detach() for n, p in replicated.named_parameters()},
            "FSDP2": {n: p.detach().full_tensor() for n, p in shards},
        }
        if rank == 0:
            torch.save(results, f"{folder}/results.pt")
    finally:
        dist.destroy_process_group()
    # Gloo's threads are still there, and now and then one of them aborts the process as the
    # interpreter shuts down ("terminate called without an active exception"). The work is done
    # and saved: leave without shutting down.
    os._exit(0)


def packed_process(_, folder):
    """The only one. Before a call all weights are shards; after it the root module's are plain parameters."""
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    try:
        x, results = torch.linspace(-1, 1, 64 * 16 * 16).view(1, 64, 16, 16), []
        for shards in (False, True):
            torch.manual_seed(0)
            model = nn.Sequential(Conv2d(64, 64, 3), nn.Sequential(Conv2d(64, 4, 3))).eval()
            nhwc_conv.prepack(model)
            if shards:
                mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
                fully_shard(model[1], mesh=mesh)
                fully_shard(model, mesh=mesh)
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for _ in range(STEPS):
                with torch.no_grad():
                    results.append(model(x))
                    nhwc_conv.prepack(model)
                    # Whether an old packing would be noticed depends on where the gathered weight comes to lie.
                    assert (model[0]._packed.parameter is model[0].weight) is not shards
                    results.append(model(x))
                model(x).pow(2).mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                with torch.no_grad():
                    results.append(model(x))
        torch.save(results, f"{folder}/results.pt")
    finally:
        dist.destroy_process_group()
    os._exit(0)


def in_one_process():
    """The same steps, with the average of the gradients of the two half-batches."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(STEPS):
        halves = [torch.autograd.grad(model(half_batch(r, step)), list(model.parameters())) for r in range(2)]
        for p, a, b in zip(model.parameters(), *halves, strict=True):
            p.grad = (a + b) / 2
        optimizer.step()
    return {n: p.detach() for n, p in model.named_parameters()}


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    results, expected = torch.load(tmp_path / "results.pt"), in_one_process()
    start = dict(Model().named_parameters())
    for how, result in results.items():
        assert result.keys() == expected.keys()
        for name, value in result.items():
            assert torch.equal(value, expected[name]), (how, name)
            assert not torch.equal(value, start[name]), (how, name)


def test_sharded_layers_are_not_packed(tmp_path):
    """Nor do packings of before go stale: FSDP gathers weights without counting what it writes."""
    torch.multiprocessing.spawn(packed_process, (str(tmp_path),), nprocs=1)
    results = torch.load(tmp_path / "results.pt")
    half = len(results) // 2
    for whole, sharded in zip(results[:half], results[half:], strict=True):
        torch.testing.assert_close(sharded, whole)
    assert not torch.allclose(results[0], results[-1])
