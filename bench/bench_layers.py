"""Every layer x dtype x pass x contender: the answer is verified, then timed. Run by `make bench`."""

import contenders
import pytest
import torch
from layers import LAYERS, flops

from nhwc_conv._extension import module as extension

ROWS = [
    (case, dtype, pass_, name)
    for case in LAYERS
    for dtype in (torch.float32, torch.float64)
    for pass_ in ("forward", "train")
    for name in contenders.names(case, pass_)
]


def described(case, dtype, pass_):
    return f"{case.name}-{str(dtype).removeprefix('torch.')}-{pass_}"


@pytest.mark.parametrize("row", ROWS, ids=[f"{described(*row[:3])}-{row[3]}" for row in ROWS])
def test_layer(benchmark, row):
    case, dtype, pass_, name = row
    benchmark.group = described(case, dtype, pass_)
    benchmark.extra_info.update(
        contender=name,
        flops=flops(case, pass_),
        threads=torch.get_num_threads(),
        instruction_set=extension.instruction_set(),
        torch=torch.__version__,
    )
    with contenders.grad_mode(pass_):
        function = contenders.contender(name, case, dtype, pass_)
        contenders.verify(name, case, dtype, pass_, function())
        if name == "conv_naive":  # seven Python loops: seconds a round
            benchmark.pedantic(function, rounds=1)
        else:
            benchmark(function)
