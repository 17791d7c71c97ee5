"""Keras on PyTorch for the tests of nhwc_conv.keras, and how its functions are held against what they replace."""

from collections import Counter
from contextlib import contextmanager

import pytest

keras = pytest.importorskip("keras")
if keras.__version__ != "3.15.1":
    pytest.skip(f"this is Keras {keras.__version__}", allow_module_level=True)

from keras.src.backend.torch import nn  # noqa: E402, F401

import nhwc_conv  # noqa: E402


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
