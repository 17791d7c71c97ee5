"""nhwc_conv.keras.prepare: every kind of layer that it knows, and those that it leaves, beside the model itself."""

import numpy as np
import pytest
import torch
from on_keras import keras

import nhwc_conv

layers, ops = keras.layers, keras.ops
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of Keras itself
EPS = np.finfo("float32").eps


class Halved(layers.Layer):
    def call(self, x):
        return x / 2, x[..., :1]


def drawn(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, shape).astype("float32"))


def model_of(*steps, shape=(9, 8, 4)):
    """Steps one after the other, with small integers for weights, and positive ones where a square root is taken."""
    inputs = keras.Input(shape)
    x = inputs
    for step in steps:
        is_layer = isinstance(step, layers.Layer)  # of a table: each model gets its own
        x = (type(step).from_config(step.get_config()) if is_layer else step)(x)
    model = keras.Model(inputs, x)
    for i, v in enumerate(model.variables):
        v.assign(drawn(v.shape, i).abs() + 1 if "variance" in v.name else drawn(v.shape, i))
    return model


def check(model, x, exact, **options):
    """The report, after results that are the same, or off by what rounding may add in networks as small as these."""
    reports = []
    prepared = nhwc_conv.keras.prepare(model, x, report=reports.append, **options)
    with torch.no_grad():
        expected, actual = (keras.tree.flatten(m(x)) for m in (model, prepared))
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= (0 if exact else 32 * EPS * b.abs().max())
    return reports[0]


ACTIVATIONS = "relu relu6 sigmoid hard_sigmoid silu hard_silu tanh gelu mish elu leaky_relu".split()
KNOWN = {
    "Conv2D": [layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")],
    "valid": [layers.Conv2D(6, (3, 2), strides=(1, 2), use_bias=False)],
    "groups": [layers.Conv2D(6, 3, groups=2, dilation_rate=2, padding="same")],
    "DepthwiseConv2D": [layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)],
    "SeparableConv2D": [layers.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2)],
    "Conv2DTranspose": [layers.Conv2DTranspose(6, 4, strides=2, padding="same", activation="relu")],
    "Conv2DTranspose, odd": [layers.Conv2DTranspose(6, (3, 2), strides=2, padding="same", use_bias=False)],
    "Conv2DTranspose, valid": [layers.Conv2DTranspose(6, 2, strides=3), layers.Conv2DTranspose(3, 2, (1, 3))],
    "Conv2DTranspose, output_padding": [layers.Conv2DTranspose(6, 5, 3, padding="same", output_padding=1)],
    "Conv2DTranspose, dilation": [layers.Conv2DTranspose(6, 3, dilation_rate=(1, 2), padding="same")],
    "Dense, of pixels": [layers.Dense(5, activation="relu")],
    "Dense": [layers.GlobalAveragePooling2D(), layers.Dense(5)],
    "BatchNormalization": [layers.Conv2D(6, 3, strides=2, padding="same"), layers.BatchNormalization()],
    "BatchNormalization, alone": [layers.BatchNormalization(scale=False, center=False, epsilon=0.1)],
    "LayerNormalization": [layers.LayerNormalization(epsilon=0.1), layers.Conv2D(3, 1)],
    "ReLU": [layers.ReLU(1.0)],
    "ZeroPadding2D": [layers.ZeroPadding2D(((1, 0), (2, 3))), layers.Conv2D(6, 3, strides=2)],
    "ZeroPadding2D, same": [layers.ZeroPadding2D(1), layers.Conv2D(6, 3, strides=2, padding="same")],
    "ZeroPadding2D, twice": [layers.ZeroPadding2D(1), layers.ZeroPadding2D((1, 2)), layers.ReLU()],
    "ZeroPadding2D, pooled": [layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)],
    "MaxPooling2D, same": [layers.MaxPooling2D((2, 3), strides=(1, 2), padding="same"), layers.ReLU()],
    "MaxPooling2D, same, beyond": [layers.MaxPooling2D((4, 3), 2, padding="same")],
    "AveragePooling2D": [layers.AveragePooling2D(2), layers.Conv2D(3, 1)],
    "GlobalAveragePooling2D": [layers.GlobalAveragePooling2D(keepdims=True)],
    "GlobalMaxPooling2D": [layers.GlobalMaxPooling2D(), layers.ReLU()],
    "UpSampling2D": [layers.UpSampling2D((2, 3)), layers.Conv2D(3, 1)],
    "Flatten": [layers.Conv2D(3, 1), layers.Flatten(), layers.ReLU()],
    "Reshape": [layers.GlobalAveragePooling2D(), layers.Reshape((1, 1, 4)), layers.Conv2D(2, 1)],
    "idle": [layers.Dropout(0.5), layers.SpatialDropout2D(0.5), layers.Identity(), layers.Conv2D(2, 1)],
    "Add": [lambda x: layers.Add()([x, layers.Conv2D(4, 1)(x), layers.ReLU()(x)])],
    "+": [lambda x: layers.Conv2D(4, 3, padding="same")(x) + x],
    "Multiply": [lambda x: layers.Multiply()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])],
    "Concatenate": [lambda x: layers.Concatenate()([layers.Conv2D(3, 1)(x), x]), layers.BatchNormalization()],
    **{name: [layers.Conv2D(3, 1, activation=name)] for name in ACTIVATIONS},
    "softmax": [layers.Conv2D(3, 1, activation="softmax")],
    "models": [keras.Sequential([layers.Conv2D(3, 1), layers.ReLU()]), layers.Conv2D(2, 3)],
}
ROUNDED = (
    *ACTIVATIONS[2:],
    "softmax",
    "Batch",
    "Layer",
    "Dense",
    "Average",
    "Global",
    "Reshape",
    "Multiply",
    "Concat",
)


@pytest.mark.parametrize("kind", KNOWN)
def test_layers_that_have_a_counterpart(kind):
    report = check(model_of(*KNOWN[kind]), drawn((3, 9, 8, 4), 9), not kind.startswith(ROUNDED))
    assert report.converted and not report.left


OF_SIGNALS = {
    "Conv1D": [layers.Conv1D(6, 3, strides=2, padding="same", activation="relu")],
    "valid": [layers.Conv1D(6, 4, groups=2), layers.Conv1D(3, 1)],
    "causal": [layers.Conv1D(6, 3, padding="causal", dilation_rate=2), layers.Conv1D(6, 2, 2, "causal")],
    "ZeroPadding1D": [layers.ZeroPadding1D((1, 3)), layers.Conv1D(6, 3, padding="causal", use_bias=False)],
    "DepthwiseConv1D": [layers.DepthwiseConv1D(3, strides=2, padding="same", depth_multiplier=2)],
    "SeparableConv1D": [layers.SeparableConv1D(6, 3, padding="same", activation="relu")],
    "Conv1DTranspose": [layers.Conv1DTranspose(6, 3, strides=2, padding="same")],
    "Conv1DTranspose, valid": [layers.Conv1DTranspose(6, 5, strides=3), layers.ReLU()],
    "BatchNormalization": [layers.Conv1D(6, 3), layers.BatchNormalization(), layers.ReLU()],
    "Dense": [layers.Dense(5)],
    "Dense, of pixels": [layers.Conv1D(6, 3), layers.Dense(5)],
    "MaxPooling1D": [layers.MaxPooling1D(3, 2), layers.MaxPooling1D(2, padding="same")],
    "AveragePooling1D": [layers.AveragePooling1D(2)],
    "GlobalAveragePooling1D": [layers.GlobalAveragePooling1D(), layers.Dense(3)],
    "GlobalMaxPooling1D": [layers.GlobalMaxPooling1D(keepdims=True), layers.Conv1D(3, 1)],
    "UpSampling1D": [layers.UpSampling1D(3), layers.Conv1D(3, 2)],
    "Concatenate": [lambda x: layers.Concatenate()([layers.Conv1D(3, 1)(x), x])],
    "Add": [
        lambda x: layers.Add()([layers.Conv1D(4, 3, padding="causal")(x), x]),
        layers.SpatialDropout1D(0.5),
    ],
    "Flatten": [layers.Flatten()],
}


@pytest.mark.parametrize("kind", OF_SIGNALS)
def test_layers_of_signals_that_have_a_counterpart(kind):
    report = check(
        model_of(*OF_SIGNALS[kind], shape=(13, 4)), drawn((3, 13, 4), 9), not kind.startswith(ROUNDED)
    )
    assert report.converted and not report.left


LEFT = {
    "bilinear": [layers.UpSampling2D(2, interpolation="bilinear")],
    "channels_first": [layers.Conv2D(3, 3, data_format="channels_first")],
    "same": [layers.AveragePooling2D(2, padding="same")],
    "axis": [layers.BatchNormalization(axis=1)],
    "axes": [layers.LayerNormalization(axis=(2, 3))],
    "ReLU": [layers.ReLU(negative_slope=0.5, threshold=1.0)],
    "a class of its own": [layers.Conv2D(3, 1), lambda x: layers.Concatenate()(list(Halved()(x)))],
    "ranks": [lambda x: layers.Multiply()([x, layers.GlobalMaxPooling2D()(x)[:, None, None]])],
    "an operation": [lambda x: ops.concatenate([x, ops.tile(x, (1, 1, 1, 2))], axis=-1) + 1.0],
    "precision": [layers.Conv2D(3, 3, dtype="mixed_bfloat16")],
    "Flatten": [layers.Conv2D(3, 1), layers.Flatten(), layers.Dense(2, dtype="float64")],
}


@pytest.mark.parametrize("kind", LEFT)
def test_layers_that_run_as_they_are(kind):
    report = check(model_of(*LEFT[kind]), drawn((3, 9, 8, 4), 9), exact=True)
    assert report.left


def test_what_is_folded_and_fused():
    steps = [
        layers.ZeroPadding2D(((0, 1), (0, 1))),
        layers.DepthwiseConv2D(3, strides=2, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        lambda x: layers.Add()([layers.BatchNormalization()(layers.Conv2D(4, 1)(x)), x]),
        layers.Conv2D(3, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
    ]
    report = check(model_of(*steps), drawn((2, 9, 8, 4), 9), exact=False)
    assert len(report.folded) == 3 and len(report.fused) == 2 and not report.unfolded and not report.unfused
    steps = [
        layers.Conv2DTranspose(6, 3, strides=2, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
    ]
    report = check(model_of(*steps), drawn((2, 9, 8, 4), 9), exact=False)
    assert len(report.folded) == 1 and len(report.fused) == 1 and not report.unfolded and not report.unfused


def test_other_sizes_than_the_example():
    model = model_of(
        *KNOWN["Conv2D"],
        *KNOWN["DepthwiseConv2D"],
        layers.MaxPooling2D(2, 1, padding="same"),
        shape=(None, None, 4),
    )
    prepared = nhwc_conv.keras.prepare(model, drawn((1, 9, 8, 4)))
    for shape in ((2, 8, 8, 4), (1, 13, 6, 4), (5, 7, 11, 4)):
        with torch.no_grad():
            assert torch.equal(prepared(drawn(shape)), model(drawn(shape)))


def test_inputs_and_outputs_by_name():
    first, second = keras.Input((4, 4, 2), name="first"), keras.Input((4, 4, 2), name="second")
    joined = layers.Conv2D(3, 3)(first) - layers.Conv2D(3, 3)(second)
    means = layers.GlobalAveragePooling2D()(joined)
    model = keras.Model({"second": second, "first": first}, {"all": joined, "mean": means})
    given = {"first": drawn((2, 4, 4, 2), 1), "second": drawn((2, 4, 4, 2), 2)}
    prepared = nhwc_conv.keras.prepare(model)
    expected = model.predict(given, verbose=0)
    found = prepared.predict(given, verbose=0)
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.abs(found[name] - expected[name]).max() <= 32 * EPS * np.abs(expected[name]).max()


def test_the_model_stays_as_it_is():
    model, x = model_of(*KNOWN["BatchNormalization"]), drawn((2, 9, 8, 4), 9)
    prepared = nhwc_conv.keras.prepare(model)
    before, weights = prepared.predict(x, verbose=0), model.get_weights()
    assert all(map(np.array_equal, model.get_weights(), weights))
    for v in model.variables:
        v.assign(v * 2)
    assert np.array_equal(prepared.predict(x, verbose=0), before)


def test_evaluate():
    model, x = model_of(*KNOWN["Dense"]), drawn((4, 9, 8, 4), 9)
    prepared = nhwc_conv.keras.prepare(model)
    values = []
    for m in (model, prepared):
        m.compile(loss="mse", jit_compile=False)
        values.append(m.evaluate(x, drawn((4, 5)), verbose=0))
    assert abs(values[0] - values[1]) <= 32 * EPS * values[0]


def test_a_wrong_counterpart_is_noticed(monkeypatch):
    from nhwc_conv.keras import counterparts

    monkeypatch.setitem(counterparts.TABLE, layers.ReLU, counterparts.idle)
    with pytest.raises(RuntimeError, match="the model by layers of torch's result is off by"):
        nhwc_conv.keras.prepare(model_of(layers.Conv2D(6, 3), layers.ReLU()))


class Subclass(keras.Model):
    def call(self, x):
        return x


def test_what_is_refused(monkeypatch, tmp_path):
    prepare = nhwc_conv.keras.prepare
    for model in (
        Subclass(),
        keras.Sequential([layers.Conv2D(3, 3)]),
        layers.Conv2D(3, 3),
        torch.nn.Identity(),
    ):
        with pytest.raises(TypeError, match=f"built Sequential or Functional .* got {type(model).__name__}"):
            prepare(model)
    with pytest.raises(ValueError, match="give an example"):
        prepare(model_of(*KNOWN["Conv2D"], shape=(None, 8, 4)))
    prepared = prepare(model_of(*KNOWN["Conv2D"]))
    with pytest.raises(ValueError, match="for inference, but got training=True"):
        prepared(drawn((1, 9, 8, 4)), training=True)
    with pytest.raises(TypeError, match="cannot be saved"):
        prepared.save(tmp_path / "model.keras")
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.raises(RuntimeError, match="knows Keras"):
        prepare(model_of(*KNOWN["Conv2D"]))
