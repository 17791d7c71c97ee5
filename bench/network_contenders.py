"""Who computes a whole network in networks.py, and how each answer is verified before it is timed."""

import copy
import importlib.util
import logging
import tempfile
import warnings
from functools import cached_property
from pathlib import Path

import layers  # noqa: F401  (puts the package and tests/ on the path)
import torch
from torch import nn

import nhwc_conv
from nhwc_conv._convert.check import Deviation, Reference

import models  # isort: skip

SAFETY = 8
EAGER = "eager, NCHW", "eager, channels_last"


def network(build, trains, dtype):
    """The channels_last original: random weights, statistics as after some training."""
    torch.manual_seed(0)
    model = models.as_trained(build())
    return model.train(trains).to(dtype, memory_format=torch.channels_last)


def images(batch, size, dtype):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, size, size, generator=generator).to(dtype, memory_format=torch.channels_last)


class Inference:
    """A network and a batch. Results are held against the original's, in its dtype and in float64."""

    def __init__(self, build, batch, size, dtype, folder):
        self.folder, self.x = Path(folder), images(batch, size, dtype)
        self.model = network(build, False, dtype)
        self.reference = Reference(self.model, self.x)
        with torch.no_grad():
            self.exact = copy.deepcopy(self.model).double()(self.x.double())

    def prepare(self, make):
        """(a function without arguments that computes, its largest error relative to the largest result).

        Raises Deviation where the result is off by more than rounding explains.
        """
        function, x = make(self)
        self.reference.check(function, x, "the contender")
        with torch.no_grad():
            error = (function(x).double() - self.exact).abs().max() / self.exact.abs().max()
        return torch.no_grad()(lambda: function(x)), error.item()

    @cached_property
    def contiguous(self):
        return copy.deepcopy(self.model).to(memory_format=torch.contiguous_format), self.x.contiguous()

    @cached_property
    def onnx_file(self):
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of other packages that it misses
        model, x = self.contiguous
        path = self.folder / "network.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of PyTorch about its own code
            torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(path)
        return path

    def converted(self):
        return nhwc_conv.convert(copy.deepcopy(self.model))

    def for_inference(self):
        return nhwc_conv.convert(self.model, inference=True, example=self.x, strict=True)


def by_onnx_runtime(task):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(task.onnx_file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return (lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])), task.contiguous[1]


def by_openvino(task):
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # it would take bfloat16 where the processor has that
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = openvino.Core().compile_model(task.onnx_file, "CPU", settings).create_infer_request()

    def function(x):
        request.infer([x.numpy()], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor().data)

    return function, task.contiguous[1]


def compiled(model, **options):
    return torch.compile(model, dynamic=False, **options)


PACKAGES = {
    "ONNX Runtime": ("onnxruntime", "onnx", "onnxscript"),
    "OpenVINO": ("openvino", "onnx", "onnxscript"),
}
INFERENCE = {
    EAGER[0]: lambda task: task.contiguous,
    EAGER[1]: lambda task: (task.model, task.x),
    "Inductor": lambda task: (compiled(copy.deepcopy(task.model)), task.x),
    "ONNX Runtime": by_onnx_runtime,
    "OpenVINO": by_openvino,
    "converted": lambda task: (task.converted(), task.x),
    "prepacked": lambda task: (nhwc_conv.prepack(task.converted()), task.x),
    "converted for inference": lambda task: (task.for_inference(), task.x),
    "backend nhwc_conv": lambda task: (
        compiled(copy.deepcopy(task.model), backend=nhwc_conv.compile_backend), task.x,
    ),
    "converted for inference, Inductor": lambda task: (compiled(task.for_inference()), task.x),
}  # fmt: skip
COMPILED = {"Inductor", "backend nhwc_conv", "converted for inference, Inductor"}
OURS = {
    "converted", "prepacked", "converted for inference", "backend nhwc_conv",
    "converted for inference, Inductor",
}  # fmt: skip


class Training:
    """A network and a batch to train it on: forward, loss, backward and a step of SGD with momentum.

    What is verified is the gradients of a smooth twin of the network, against those in float64: where rounding
    moves a value across the kink of ReLU or to another maximum of a pool, gradients jump.
    """

    def __init__(self, build, batch, size, dtype, folder):
        self.model, self.x = network(build, True, dtype), images(batch, size, dtype)
        self.smooth = smoothed(copy.deepcopy(self.model))
        self.exact = gradients(copy.deepcopy(self.smooth).double(), self.x.double())
        # In both layouts: in float64 one of them is what is exact.
        eager = (self.error(*TRAINING[name](copy.deepcopy(self.smooth), self.x)) for name in EAGER)
        self.limit = SAFETY * max(eager)

    def prepare(self, make):
        """(a function without arguments that is one step, the largest error of a gradient: see `error`).

        Raises Deviation where that is more than SAFETY times eager PyTorch's.
        """
        error = self.error(*make(copy.deepcopy(self.smooth), self.x))
        if not error <= self.limit:
            raise Deviation(f"its gradients are off by {error:.2g}, but rounding explains {self.limit:.2g}")
        return training_step(*make(copy.deepcopy(self.model), self.x)), error

    def error(self, model, x):
        """The largest error of a gradient, relative to its norm."""
        norms = [b.norm() for b in self.exact]
        # Some are zero but for rounding: of what a BatchNorm adds and the next one takes away.
        least = max(norms) / 100
        found = zip(gradients(model, x), self.exact, norms, strict=True)
        return max(((a - b).norm() / max(norm, least)).item() for a, b, norm in found)


TRAINING = {
    EAGER[0]: lambda model, x: (model.to(memory_format=torch.contiguous_format), x.contiguous()),
    EAGER[1]: lambda model, x: (model, x),
    "Inductor": lambda model, x: (compiled(model), x),
    "converted": lambda model, x: (nhwc_conv.convert(model), x),
    "backend nhwc_conv": lambda model, x: (compiled(model, backend=nhwc_conv.compile_backend), x),
}


def loss_of(out):
    """Cross entropy with labels 0, 1, 2, ... for images, or for the pixels of a map of classes."""
    classes = out.shape[1]
    labels = torch.arange(out.numel() // classes) % min(classes, 10)
    return nn.functional.cross_entropy(out, labels.reshape(out.shape[0], *out.shape[2:]))


def training_step(model, x):
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def run():
        optimiser.zero_grad()
        loss_of(model(x)).backward()
        optimiser.step()

    return run


def smoothed(model):
    """`model`, changed: SiLU for ReLU, average pools for maximum pools."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(parent, name, nn.SiLU())
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    return model


def gradients(model, x):
    return [g.double() for g in torch.autograd.grad(loss_of(model(x)), list(model.parameters()))]


def chosen(trains, dtype, with_compiled):
    """({name: how it is made}, [who is left out, and why])."""
    found, left_out = dict(TRAINING if trains else INFERENCE), []
    if not with_compiled:
        names = [name for name in found if name in COMPILED]
        left_out.append(f"{'; '.join(names)}: only with --compiled, which takes minutes")
        found = {name: make for name, make in found.items() if name not in COMPILED}
    for name, packages in PACKAGES.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if name in found and dtype != torch.float32:
            left_out.append(f"{name}: timed in float32 alone")
            del found[name]
        elif name in found and missing:
            left_out.append(f"{name}: not installed ({', '.join(missing)}), `pip install .[rivals]` is")
            del found[name]
    return found, left_out


def prepared(build, batch, size, trains, dtype, makers):
    """{name: (function, error)} and {name: why it failed}. What is ours or eager PyTorch's may not fail."""
    functions, failed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        task = (Training if trains else Inference)(build, batch, size, dtype, folder)
        for name, make in makers.items():
            try:
                functions[name] = task.prepare(make)
            except Exception as error:
                if name in OURS or name in EAGER:
                    raise SystemExit(f"{name}: {type(error).__name__}: {error}") from error
                failed[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
    return functions, failed
