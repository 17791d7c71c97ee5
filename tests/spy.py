"""What ops run: a mode that names them, and the backend of torch.compile with a look at the graphs.

The backend does without Inductor, which costs many seconds a graph.
"""

from collections import Counter

import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

from nhwc_conv._compile import use_nhwc_conv
from nhwc_conv._extension import available

OURS = torch.ops.nhwc_conv
PACKED = OURS.conv2d_packed.default
FORWARD, BACKWARD = OURS.conv2d.default, (OURS.conv2d_input.default, OURS.conv2d_weight.default)
# Both at once, of a batch, by the extension.
GRADIENTS = OURS._convolution_gradients.default if available else None


class Spy:
    """A backend that counts the graphs it gets, the convolutions it rewrites, and the ops that come of it."""

    def __init__(self, freezing=False):
        torch._dynamo.reset()
        self.freezing, self.packed = freezing, []
        self.rewritten, self.graphs, self.ops = 0, 0, Counter()

    def __call__(self, graph, example_inputs):
        self.graphs += 1
        self.rewritten += use_nhwc_conv(graph, self.freezing)
        self.packed += [n.args[1:] for n in graph.graph.nodes if n.target is OURS.pack_weight.default]
        return aot_autograd(fw_compiler=self.count, bw_compiler=self.count)(graph, example_inputs)

    def backward(self):
        """How many convolutions' gradients were computed."""
        inputs, weights = (self.ops[op] for op in BACKWARD)
        assert inputs == weights
        return inputs + self.ops[GRADIENTS]

    def count(self, graph, example_inputs):
        self.ops.update(node.target for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)


class OpNames(TorchDispatchMode):
    """The names of the ops that run."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.name())
        return func(*args, **(kwargs or {}))
