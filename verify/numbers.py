"""What the ops compute, over random geometries: exact on integers, small errors on real numbers, the same bits."""

from __future__ import annotations

from collections import Counter

import oracle
import torch
from case import COMPUTED
from cases import LAYERS, Case

import nhwc_conv
from nhwc_conv._extension import module as extension
from nhwc_conv._geometry import extent

from .algorithms import EXACT, FORWARD, try_forward
from .geometries import random_cases, table_cases

GRADIENTS_OF_X = "conv2d_input", "conv_transpose2d", "conv_transpose1d"
DIRECT = 1  # the `algorithm` of gradients that is never Winograd


def stored(t: torch.Tensor, turn: int) -> torch.Tensor:
    """The same values contiguous, with their dimensions in another order, or with space between them."""
    if turn % 3 == 0 or t.dim() != 4:
        return t
    if turn % 3 == 1:
        return t.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    larger = torch.full([size + 1 for size in t.shape], float("nan"), dtype=t.dtype)
    return larger[tuple(slice(0, size) for size in t.shape)].copy_(t)


def _calls(case: Case, x, w, bias, grad, names):
    """(name, result) of every op on a case."""
    ops = torch.ops.nhwc_conv
    for name in names:
        result = try_forward(name, x, w, bias, case.geometry)
        if result is not None:
            yield name, result
    packed = ops.pack_weight(w, case.groups)
    yield "conv2d_packed", ops.conv2d_packed(x, packed, list(w.shape), bias, **case.geometry)
    yield "conv2d_input", ops.conv2d_input(grad, w, x.shape[-3:-1], **case.geometry, algorithm=DIRECT)
    yield "conv2d_weight", ops.conv2d_weight(grad, x, w.shape[:2], **case.geometry, algorithm=DIRECT)
    yield from _transposed_and_of_one_row(case, x, w, bias, grad)


def _transposed_and_of_one_row(case: Case, x, w, bias, grad):
    """(name, result) of the functions on their own terms; transposed ones give the gradient of x."""
    sides, strides, dilations = oracle.four_sides(case), oracle.pair(case.stride), oracle.pair(case.dilation)
    more = [  # what makes the result as large as x
        (size + sum(sides[2 * a : 2 * a + 2]) - extent(w.shape[a], dilations[a])) % strides[a]
        for a, size in enumerate(case.x[-3:-1])
    ]
    transposed = nhwc_conv.conv_transpose2d(grad, w, None, strides, sides, more, case.groups, dilations)
    yield "conv_transpose2d", transposed
    if case.x[-3] == case.w[0] == 1 and sides[:2] == (0, 0):
        x, w, grad = x.squeeze(-3), w.squeeze(0), grad.squeeze(-3)
        step, along, more, apart = strides[1:], sides[2:], more[1:], dilations[1:]
        signal = nhwc_conv.conv1d(x, w, bias, step, along, apart, case.groups)
        yield "conv1d", signal.unsqueeze(-3)
        signal = nhwc_conv.conv_transpose1d(grad, w, None, step, along, more, case.groups, apart)
        yield "conv_transpose1d", signal.unsqueeze(-3)


def exactness(count: int, seed: int, draw=random_cases) -> dict:
    """Every direct op and gradient on integers against float64 F.conv2d, threshold 0."""
    torch.set_num_threads(1)
    extension.share_all_work(True)
    calls, wrong = 0, []
    for turn, case in enumerate(draw(count, seed)):
        x, w, bias = case.tensors(torch.float64, integers=True)
        y = oracle.forward(case, x, w, bias)
        grad = case.grad_like(y, integers=True)
        dx, dw = oracle.gradients(case, x, w, bias, grad)[:2]
        expected = {"conv2d_weight": dw} | dict.fromkeys(GRADIENTS_OF_X, dx)
        for isa in extension.instruction_sets():
            extension.set_instruction_set(isa)
            for dtype in COMPUTED:
                turn += 1
                data = [t if t is None else t.to(dtype) for t in (x, w, bias, grad)]
                data[0], data[1], data[3] = (
                    stored(t, turn // k) for t, k in ((data[0], 1), (data[1], 2), (data[3], 3))
                )
                torch.set_num_threads(2 if turn % 16 == 0 else 1)
                with nhwc_conv.flags(winograd=False):
                    for name, result in _calls(case, *data, EXACT):
                        calls += 1
                        if not torch.equal(result, expected.get(name, y).to(dtype)):
                            wrong.append(f"{name} {isa} {dtype} {case}")
    return dict(geometries=count, calls=calls, wrong=wrong)


def errors(count: int, seed: int) -> dict:
    """The largest error of each op and dtype in units of u * sum |x||w|, and the geometry where it is."""
    torch.set_num_threads(1)
    worst, wrong, calls = {}, [], 0
    for case in [*(table_cases() if seed == 0 else ()), *random_cases(count, 1000 + seed)]:
        for dtype in COMPUTED:
            sums = oracle.sums_of(dtype)
            u = torch.finfo(sums).eps / 2
            x, w, bias = case.tensors(dtype)
            grad = case.grad_like(oracle.forward(case, x, w, bias).to(dtype))
            y, size = oracle.forward(case, x, w, bias), oracle.forward(case, x.abs(), w.abs(), _abs(bias))
            gradients = oracle.gradients(case, x, w, bias, grad)
            sizes = oracle.gradients(case, x.abs(), w.abs(), _abs(bias), grad.abs())
            n = oracle.terms(case, grad)
            expected = {"conv2d_weight": (gradients[1], sizes[1], n[2])}
            expected |= dict.fromkeys(GRADIENTS_OF_X, (gradients[0], sizes[0], n[1]))
            for isa in extension.instruction_sets():
                extension.set_instruction_set(isa)
                for name, result in _calls(case, x, w, bias, grad, FORWARD):
                    calls += 1
                    value, magnitude, terms = expected.get(name, (y, size, n[0]))
                    promise = FORWARD.get(name)
                    if promise and not promise.exact:
                        magnitude, limit = magnitude.amax((-3, -2, -1), keepdim=True), promise.bound
                    else:
                        # The oracle's own rounding, in float64, counts too.
                        limit = (oracle.gamma(terms, sums) + oracle.gamma(terms, torch.float64)) / u
                    # Of the sum: what half precision adds by rounding is taken off; numbers below the normal ones
                    # are as far apart as the least of these.
                    rounding, normal = oracle.rounding(dtype), torch.finfo(dtype).smallest_normal
                    off = (result.double() - value).abs() - rounding * value.abs().clamp_min(normal)
                    off = off.clamp_min(0) / (1 + rounding)
                    units = float((off / (u * magnitude).clamp_min(1e-300)).max()) if off.numel() else 0.0
                    if not units <= limit:
                        wrong.append(f"{name} {isa} {dtype} {units:.1f} units: {case}")
                    key = f"{name} {str(dtype).removeprefix('torch.')}"
                    worst[key] = max(worst.get(key, (0.0, "")), (units, f"{isa}, {described(case)}"))
    return dict(geometries=count, calls=calls, wrong=wrong, worst=worst)


def _abs(t):
    return None if t is None else t.abs()


def described(case: Case) -> str:
    """In the words of a table: sizes, and steps where they are not 1."""
    text = f"x {'x'.join(map(str, case.x))}, w {'x'.join(map(str, case.w))}"
    for name, plain in (("stride", 1), ("padding", 0), ("dilation", 1)):
        value = getattr(case, name)
        if any(v != plain for v in oracle.pair(value)):
            text += f", {name} {value if isinstance(value, int) else 'x'.join(map(str, value))}"
    return text + (f", groups {case.groups}" if case.groups > 1 else "")


def bits(count: int, seed: int, draw=random_cases) -> dict:
    """Threads 1, 2, 3, 8; an image alone and in a batch of 8; again; and other layouts: always the same bits."""
    extension.share_all_work(True)
    calls, wrong = Counter(), []
    layers = [case for case in LAYERS if len(case.x) == 4] if seed == 0 and draw is random_cases else []
    for case in [*layers, *draw(count, 2000 + seed)]:
        generator = torch.Generator().manual_seed(seed)
        for dtype in COMPUTED:
            _, w, bias = case.tensors(dtype)
            batch = torch.randn(8, *case.x[1:], generator=generator, dtype=dtype)
            grads = case.grad_like(oracle.forward(case, batch, w)).to(dtype)
            for isa in extension.instruction_sets():
                extension.set_instruction_set(isa)
                torch.set_num_threads(1)
                first = dict(_calls(case, batch[3:4], w, bias, grads[3:4], FORWARD))
                whole = dict(_calls(case, batch, w, bias, grads, FORWARD))
                for turn, threads in enumerate((1, 2, 3, 8)):
                    torch.set_num_threads(threads)
                    for x, g, reference in (
                        (batch[3:4], grads[3:4], first), (stored(batch, turn), stored(grads, turn), first),
                        (batch, grads, whole),
                    ):  # fmt: skip
                        alone = len(x) == 1 or reference is whole
                        for name, result in _calls(case, x, w, bias, g, FORWARD):
                            if name == "conv2d_weight" and not alone:
                                continue  # sums over the batch
                            calls[name] += 1
                            if not torch.equal(result if alone else result[3:4], reference[name]):
                                wrong.append(
                                    f"{name} {isa} {dtype} {threads} threads, {len(x)} images: {case}"
                                )
    return dict(geometries=count + len(layers), calls=sum(calls.values()), wrong=wrong)
