"""Forked children, data loaders, calls from many Python threads, and calls from within parallel regions."""

import ctypes
import hashlib
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch
from cases import BY_NAME
from conftest import ROOT
from torch.utils.data import DataLoader, Dataset

import nhwc_conv

# Enough work for several threads each, and different paths: viewed, panel, lanewise, few outputs, packed by items.
NAMES = [
    "notebook", "resnet_3x3", "dilation2_padded", "depthwise_28", "c17_o1", "groups2", "many_weights_1x1",
    "resnet_3x3_stride2",
]  # fmt: skip
DTYPES = [torch.float32, torch.float64]


@cache  # made before a fork: torch converts and permutes large tensors on its own threads
def inputs(name, dtype):
    """x, the same stored as NCHW, w, bias and an output gradient."""
    case = BY_NAME[name]
    x, w, bias = case.tensors(dtype)
    grad = case.grad_like(torch.ops.nhwc_conv.im2col(x, w, bias, **case.geometry))
    return x, x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), w, bias, grad


def every_pass(name, dtype):
    """The results of all ops on a case: forward, from packed weights, and both gradients, also of NCHW tensors."""
    ops, case = torch.ops.nhwc_conv, BY_NAME[name]
    x, stored_nchw, w, bias, grad = inputs(name, dtype)
    out = [getattr(ops, op)(x, w, bias, **case.geometry) for op in ("im2col", "matmul", "conv2d")]
    out.append(ops.conv2d_packed(x, ops.pack_weight(w, case.groups), w.shape, bias, **case.geometry))
    out.append(ops.conv2d_input(grad, w, x.shape[-3:-1], **case.geometry))
    for image in (x, stored_nchw):
        out.append(ops.conv2d_weight(grad, image, w.shape[:2], **case.geometry))
    return out


def digest(tensors):
    """Of the bytes, by hashlib: torch.equal would run on torch's own threads."""
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


def digest_of_everything():
    return digest([t for name in NAMES for dtype in DTYPES for t in every_pass(name, dtype)])


FORK = """
import os, signal, sys, torch, torch.nn.functional as F
from test_processes import digest_of_everything
torch.set_num_threads(4)
F.conv2d(torch.ones(4, 64, 56, 56), torch.ones(64, 64, 3, 3))  # starts the pool
before = digest_of_everything()
generations = int(sys.argv[1])
for _ in range(generations):
    child = os.fork()
    if child:
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    signal.alarm(30)
    torch.set_num_threads(int(sys.argv[2]))
    after = digest_of_everything()
    if after != before:
        os._exit(3)
os._exit(0)
"""


@pytest.mark.needs_extension
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("generations", "threads"), [(1, 4), (1, 1), (2, 2)])
def test_a_forked_child_computes_the_same_bits(generations, threads):
    """F.conv2d never returns there: the threads it waits for are the parent's."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(generations), str(threads)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr)


class Convolved(Dataset):
    """Each item is the convolution of an image, computed in the worker."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        x, w, bias = BY_NAME["resnet_3x3"].tensors(torch.float32)
        return nhwc_conv.conv2d(x[0] * (index + 1), w, bias, padding=1)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers(method, threads):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    threads(2)
    dataset = Convolved()
    expected = torch.stack([dataset[i] for i in range(len(dataset))])
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=method, timeout=120)
    assert torch.equal(torch.cat(list(loader)), expected)


@pytest.mark.parametrize("changing", [False, True], ids=["", "threads_change"])
def test_eight_python_threads_at_once(changing, threads):
    """Different shapes in each, and torch.set_num_threads in between where `changing`."""
    expected = {(name, d): digest(every_pass(name, d)) for name in NAMES for d in DTYPES}

    def work(index):
        wrong = []
        for turn in range(6):
            if changing:
                torch.set_num_threads(1 + (index + turn) % 4)
            name, dtype = NAMES[(index + turn) % len(NAMES)], DTYPES[(index + turn // 2) % 2]
            if digest(every_pass(name, dtype)) != expected[name, dtype]:
                wrong.append((name, dtype))
        return wrong

    threads(3)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8)), []) == []


def test_backward_in_many_threads(threads):
    threads(2)
    case = BY_NAME["resnet_3x3"]

    def gradients(_):
        x, w, bias = (
            t.requires_grad_() for t in case.tensors(torch.float64)[:2] + (torch.ones(64).double(),)
        )
        y = nhwc_conv.conv2d(x, w, bias, padding=1)
        return digest(torch.autograd.grad(y, (x, w, bias), torch.ones_like(y)))

    with ThreadPoolExecutor(4) as pool:
        assert len({gradients(0), *pool.map(gradients, range(12))}) == 1


@pytest.mark.needs_extension
def test_nested_in_a_parallel_region(threads):
    """Called by torch's parallel_for on all of its threads at once, as an op that runs on the pool itself may."""
    library = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))))
    body_type = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    run = library.torch_parallel_for
    run.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, body_type, ctypes.c_void_p]
    threads(3)
    expected = {name: digest(every_pass(name, torch.float32)) for name in NAMES}
    seen = []

    @body_type
    def body(begin, end, _):
        for i in range(begin, end):
            seen.append((i, digest(every_pass(NAMES[i], torch.float32)) == expected[NAMES[i]]))

    assert run(0, len(NAMES), 1, body, None) == 0
    assert sorted(seen) == [(i, True) for i in range(len(NAMES))]
