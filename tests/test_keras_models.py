"""Keras models with nhwc_conv.keras enabled: built before and after, trained, saved, exported, compiled."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from on_keras import keras, served

import nhwc_conv

layers = keras.layers
# Of Keras and of torch about their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 9, 9, 3)).astype("float32")
Y = RNG.integers(0, 4, 8)
CONVOLUTIONS = {"conv2d": 4, "conv_transpose2d": 1}  # in a call of the model; one layer is two of them


def build(dtype="float32"):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((9, 9, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", dtype=dtype)(inputs)
    x = layers.BatchNormalization(dtype=dtype)(x)
    x = layers.MaxPooling2D(2, 1, dtype=dtype)(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", dtype=dtype)(x)
    x = layers.SeparableConv2D(6, 3, padding="same", dtype=dtype)(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", dtype=dtype)(x)
    x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    return keras.Model(inputs, layers.Dense(4, dtype=dtype)(x))


def compiled(model, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, **{"jit_compile": False, **options})
    return model


def fit(model):
    return model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]


def close(actual, expected, steps=64):
    """Up to rounding, of networks so small that it grows by no more than this."""
    dtype = torch.bfloat16 if expected.dtype.name == "bfloat16" else torch.float32
    unit = torch.finfo(dtype).eps * np.abs(expected.astype("float64")).max()
    assert np.abs(actual.astype("float64") - expected.astype("float64")).max() <= steps * unit


def test_a_model_built_before(monkeypatch):
    model = build()
    expected = model.predict(X, verbose=0)
    with served(monkeypatch) as calls:
        close(model.predict(X, verbose=0), expected)
    assert calls == CONVOLUTIONS
    assert np.array_equal(model.predict(X, verbose=0), expected)


def test_a_model_built_while_enabled(monkeypatch):
    expected = build().predict(X, verbose=0)
    with served(monkeypatch) as calls:
        model = build()
        assert not calls  # shapes are inferred as ever
        close(model.predict(X, verbose=0), expected)
    assert calls == CONVOLUTIONS
    assert np.array_equal(model.predict(X, verbose=0), expected)


def test_fit(monkeypatch):
    expected = fit(compiled(build()))
    with served(monkeypatch) as calls:
        losses = fit(compiled(build()))
    assert calls == {name: 4 * n for name, n in CONVOLUTIONS.items()}
    close(np.array(losses), np.array(expected))


def test_mixed_precision(monkeypatch):
    expected = build("mixed_bfloat16").predict(X, verbose=0)
    with served(monkeypatch) as calls:
        actual = build("mixed_bfloat16").predict(X, verbose=0)
    assert calls == CONVOLUTIONS and actual.dtype == expected.dtype
    close(actual, expected, steps=4)
    with served(monkeypatch) as calls:
        losses = fit(compiled(build("mixed_bfloat16")))
    assert calls and losses[1] < losses[0]


def test_saved_and_loaded(monkeypatch, tmp_path):
    model = build()
    expected = model.predict(X, verbose=0)
    with served(monkeypatch) as calls:
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        close(loaded.predict(X, verbose=0), expected)
        assert calls == CONVOLUTIONS
    assert np.array_equal(loaded.predict(X, verbose=0), expected)


def test_export(monkeypatch, tmp_path):
    """A program that was exported while enabled has our ops; one exported without has none."""
    model = build()
    expected = model.predict(X[:1], verbose=0)
    programs = {}
    for name, on in (("with", True), ("without", False)):
        path = tmp_path / f"{name}.pt2"
        if on:
            with nhwc_conv.keras.enable():
                model.export(path, format="torch", verbose=False)
        else:
            model.export(path, format="torch", verbose=False)
        programs[name] = torch.export.load(path)
        with torch.no_grad():
            close(programs[name].module()(torch.from_numpy(X[:1])).numpy(), expected)
    names = {key: [str(n.target) for n in p.graph.nodes] for key, p in programs.items()}
    assert sum(name.startswith("nhwc_conv.") for name in names["with"]) == sum(CONVOLUTIONS.values())
    assert not any("nhwc_conv" in name for name in names["without"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_export_to_onnx(tmp_path):
    """Keras does it by torch.jit's tracer, which sees convolutions of torch."""
    runtime = pytest.importorskip("onnxruntime")
    model, path = build(), tmp_path / "model.onnx"
    expected = model.predict(X[:1], verbose=0)
    with nhwc_conv.keras.enable():
        model.export(path, format="onnx", verbose=False)
    session = runtime.InferenceSession(path)
    close(session.run(None, {session.get_inputs()[0].name: X[:1]})[0], expected)


def test_jit_compile(monkeypatch):
    """What was compiled while enabled runs here, and afterwards no longer."""
    torch._dynamo.reset()
    model, ran = compiled(build(), jit_compile=True), []
    expected = compiled(build()).predict(X, verbose=0)
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend=noting(ran)))
    for on in (False, True, False, True):
        ran.clear()
        with nhwc_conv.keras.enable() if on else nullcontext():
            close(model.predict(X, verbose=0), expected)
        assert ran and any("nhwc_conv" in name for name in ran) == on
    torch._dynamo.reset()


def noting(ran):
    """A backend whose graphs, whenever they run, add the names of their functions to `ran`."""

    def backend(graph, example_inputs):
        names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]

        def run(*args):
            ran.extend(names)
            return graph(*args)

        return run

    return backend
