"""Keras on PyTorch for the tests of nhwc_conv.keras, and how its functions are held against what they replace."""

from collections import Counter
from contextlib import contextmanager

import pytest
import torch

keras = pytest.importorskip("keras")
if keras.__version__ != "3.15.1":
    pytest.skip(f"this is Keras {keras.__version__}", allow_module_level=True)

from keras.src.backend.torch import nn  # noqa: E402, F401

import nhwc_conv  # noqa: E402

SAFETY = 4
IMAGES, ROWS, VECTORS = (2, 6, 7, 4), (2, 9, 4), (3, 4)


@contextmanager
def served(monkeypatch):
    """nhwc_conv.keras enabled, and a count of the calls that our functions served."""
    from nhwc_conv.keras import convolutions

    calls = Counter()

    def counted(function):
        def call(*args):
            result = function(*args)
            calls[function.__name__] += 1
            return result

        return call

    with monkeypatch.context() as patch:
        for table in (convolutions.FORWARD, convolutions.TRANSPOSED):
            for axes, function in table.items():
                patch.setitem(table, axes, counted(function))
        with nhwc_conv.keras.enable():
            yield calls


def check(actual, theirs, answer):
    """That errors are no larger than those of the original, or than rounding of the largest element, but for SAFETY."""
    assert actual.keys() == theirs.keys() == answer.keys()
    for name, value in answer.items():
        assert actual[name].dtype == theirs[name].dtype
        unit = max(
            (theirs[name] - value).abs().max(), torch.finfo(theirs[name].dtype).eps * value.abs().max()
        )
        assert (actual[name] - value).abs().max() <= SAFETY * unit, name


def tensors_of(shapes):
    generator = torch.Generator().manual_seed(0)
    several = shapes if isinstance(shapes, list) else [shapes]
    return [torch.randn(shape, generator=generator) for shape in several]


def model_of(layer, shapes):
    """A model of one layer, of numbers drawn at random."""
    inputs = [keras.Input(x.shape[1:]) for x in tensors_of(shapes)]
    model = keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))
    generator = torch.Generator().manual_seed(1)
    for v in layer.weights:
        if "seed" not in v.name:
            v.assign(torch.rand(v.shape, generator=generator) + 0.5)
    return model


@contextmanager
def asked(monkeypatch):
    """nhwc_conv.keras enabled, and the names of the layers of which Keras made the whole call."""
    names, original = [], keras.Layer._assert_input_compatibility

    def noted(self, x):
        names.append(self.name)
        return original(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Layer, "_assert_input_compatibility", noted)
        with nhwc_conv.keras.enable():
            yield names
