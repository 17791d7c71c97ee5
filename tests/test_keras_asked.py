"""nhwc_conv.keras.enable: calls of layers that are left to Keras, and what a call does beside computing."""

import pytest
import torch
from on_keras import IMAGES, ROWS, VECTORS, asked, check, keras, model_of, tensors_of

import nhwc_conv

layers, ops = keras.layers, keras.ops


class Twice(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return 2 * super().convolution_op(inputs, kernel)


def quantized(layer):
    layer.quantize("int8")


def rematerialized():
    with keras.RematScope(mode="full"):
        return layers.Conv2D(**OPTIONS)


def hooked(layer):
    layer.register_forward_hook(lambda module, args, out: 2 * out)


def hooked_before(layer):
    layer.register_forward_pre_hook(lambda module, args: (2 * args[0],))


def overridden(layer):
    layer.call = lambda inputs: 2 * inputs


def limited(layer):
    layer.input_spec = keras.InputSpec(shape=(None, 6, 7, 4))


def with_more_arguments(layer):
    layer._called = False
    layer._register_call_context_args("more")
    layer._called = True


ALIKE = (2, 4, 5, 4)  # whichever axis are the channels
OPTIONS = {"filters": 4, "kernel_size": 3}
# A layer of Keras' own, what is done to it before it is called, and the sizes of its input.
OTHERWISE = {
    "a subclass": (lambda: Twice(**OPTIONS), None, IMAGES),
    "a hook": (lambda: layers.Conv2D(**OPTIONS), hooked, IMAGES),
    "a hook before": (lambda: layers.Dense(4), hooked_before, IMAGES),
    "memory": (rematerialized, None, IMAGES),
    "another call": (lambda: layers.Conv2D(**OPTIONS), overridden, IMAGES),
    "a specification": (lambda: layers.Conv2D(**OPTIONS), limited, IMAGES),
    "other arguments": (lambda: layers.Conv2D(**OPTIONS), with_more_arguments, IMAGES),
    "a loss": (lambda: layers.Conv2D(**OPTIONS, activity_regularizer="l2"), None, IMAGES),
    "low rank": (lambda: layers.Conv2D(**OPTIONS, lora_rank=2), None, IMAGES),
    "dense of low rank": (lambda: layers.Dense(4, lora_rank=2), None, IMAGES),
    "quantized": (lambda: layers.Dense(4), quantized, IMAGES),
    "channels first": (lambda: layers.Conv2D(**OPTIONS, data_format="channels_first"), None, ALIKE),
    "causal": (lambda: layers.Conv1D(**OPTIONS, padding="causal"), None, ROWS),
    "negative slope": (lambda: layers.ReLU(negative_slope=0.5), None, IMAGES),
    "threshold": (lambda: layers.ReLU(threshold=0.5), None, IMAGES),
    "another axis": (lambda: layers.LayerNormalization(axis=1), None, ALIKE),
    "several axes": (lambda: layers.LayerNormalization(axis=[2, 3]), None, IMAGES),
    "rounding": (lambda: layers.LayerNormalization(dtype="mixed_bfloat16"), None, IMAGES),
    "average of another": (lambda: layers.GlobalAveragePooling2D(data_format="channels_first"), None, IMAGES),
    "padding of another": (lambda: layers.ZeroPadding2D(data_format="channels_first"), None, IMAGES),
    "ranks": (lambda: layers.Add(), None, [(2, 3, 2, 4), (2, 4)]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*__array__ implementation:DeprecationWarning")  # Keras' own
@pytest.mark.parametrize("form", OTHERWISE)
def test_all_else_is_called_by_keras(form, monkeypatch):
    make, change, shapes = OTHERWISE[form]
    keras.utils.set_random_seed(0)
    layer, inputs = make(), tensors_of(shapes)
    model = model_of(layer, shapes)
    if change:
        change(layer)
    expected, losses = model(inputs, training=False), [loss.item() for loss in model.losses]
    with asked(monkeypatch) as names:
        actual = model(inputs, training=False)
        assert layer.name in names and [loss.item() for loss in model.losses] == losses
    unit = torch.finfo(expected.dtype).eps * expected.abs().max()
    assert actual.dtype == expected.dtype and (actual - expected).abs().max() <= 64 * unit


class Outer(keras.Layer):
    """A layer that calls others."""

    def __init__(self, *inner, dtype="float32", **kwargs):
        super().__init__(dtype=dtype)
        self.inner, self.kwargs = inner, kwargs

    def call(self, x):
        first, *rest = self.inner
        out = first(x, **self.kwargs)
        for layer in rest:
            out = layer(out)
        return out


def with_specification(**kwargs):
    layer = layers.ReLU()
    layer.input_spec = keras.InputSpec(**kwargs)
    return layer


MISTAKES = {
    "channels": (lambda: layers.Conv2D(4, 3), IMAGES, (2, 6, 7, 3)),
    "rank": (lambda: layers.BatchNormalization(), IMAGES, (2, 7, 4)),
    "too few axes": (lambda: layers.DepthwiseConv2D(3), IMAGES, (4,)),
    "another rank": (lambda: with_specification(min_ndim=5), IMAGES, IMAGES),
    "an axis": (lambda: with_specification(axes={1: 5}), IMAGES, IMAGES),
    "size": (lambda: layers.Conv2D(4, 5), IMAGES, (2, 3, 3, 4)),
    "a function": (lambda: layers.Activation(lambda x: x.nothing), IMAGES, IMAGES),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_errors_are_those_of_keras(mistake):
    make, shape, wrong = MISTAKES[mistake]
    layer = make()
    layer.build(shape)
    layer._called = True
    outer = Outer(layer)
    with pytest.raises(Exception) as expected:  # noqa: B017, PT011  # whatever it is
        outer(torch.ones(wrong))
    with nhwc_conv.keras.enable(), pytest.raises(expected.type) as actual:
        outer(torch.ones(wrong))
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize("kwargs", [{}, {"training": True}, {"training": False}, {"training": None}], ids=str)
@pytest.mark.parametrize("training", [None, False, True])
def test_training_reaches_the_same_layers(training, kwargs):
    """What a call is told, the next ones are told, too."""
    results = []
    for on in (False, True):
        keras.utils.set_random_seed(0)
        outer = Outer(layers.Identity(), layers.Dropout(0.5), **kwargs)
        outer(torch.ones(VECTORS))
        if on:
            with nhwc_conv.keras.enable():
                results.append(outer(torch.ones(VECTORS), training=training))
        else:
            results.append(outer(torch.ones(VECTORS), training=training))
    assert torch.equal(*results)


def layer_scale(**options):
    return keras.src.applications.convnext.LayerScale(0.3, 4, **options)


policies = keras.dtype_policies
by_name = policies.DTypePolicyMap("float32", {".*layer_scale.*": policies.DTypePolicy("bfloat16")})
PRECISIONS = {
    "another input": ("float64", lambda: [layers.ReLU()]),
    "a policy of its own": ("bfloat16", lambda: [layer_scale(dtype="mixed_bfloat16")]),
    "within another policy": ("mixed_bfloat16", lambda: [layers.ReLU(), layer_scale()]),
    "as it is": ("mixed_bfloat16", lambda: [layer_scale(dtype="mixed_bfloat16", autocast=False)]),
    "the same": ("mixed_bfloat16", lambda: [layer_scale(dtype="mixed_bfloat16"), layers.Dense(4)]),
    "half": ("float16", lambda: [layers.Dense(4, dtype="float16", bias_initializer="normal")]),
    "by name": ("float32", lambda: [layer_scale(dtype=by_name)]),
}


@pytest.mark.parametrize("form", PRECISIONS)
def test_dtypes_in_layers(form):
    dtype, make = PRECISIONS[form]
    outer, x = Outer(*make(), dtype=dtype), tensors_of(IMAGES)[0]
    expected = outer(x)
    with nhwc_conv.keras.enable():
        actual = outer(x)
    assert actual.dtype == expected.dtype and torch.equal(actual, expected)


def test_masks_of_training():
    outer = Outer(layers.BatchNormalization(), training=True, mask=torch.arange(18).view(2, 9) % 3 == 0)
    x = tensors_of(ROWS)[0]
    expected = outer(x)
    with nhwc_conv.keras.enable():
        check({"out": outer(x)}, {"out": expected}, {"out": expected.double()})


def test_a_layer_that_is_not_built_is_built():
    model, x = model_of(layers.Flatten(), IMAGES), tensors_of(IMAGES)[0]
    model.layers[-1].built = False
    with nhwc_conv.keras.enable():
        model(x)
    assert model.layers[-1].built


def test_hooks_of_all_modules(monkeypatch):
    model, x = model_of(layers.Flatten(), IMAGES), tensors_of(IMAGES)[0]
    hook = torch.nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append(module))
    try:
        with nhwc_conv.keras.enable():
            seen = []
            model(x)
    finally:
        hook.remove()
    assert model.layers[-1] in seen


def test_layouts_of_results():
    paths = []

    class Distribution:
        def get_tensor_layout(self, path):
            paths.append(path)

    model, x = model_of(layers.Flatten(), IMAGES), tensors_of(IMAGES)[0]
    try:
        keras.distribution.set_distribution(Distribution())
        with nhwc_conv.keras.enable():
            model(x)
    finally:
        keras.distribution.set_distribution(None)
    assert any(model.layers[-1].name in path for path in paths)


def test_masks_are_passed_on(monkeypatch):
    inputs = keras.Input((9, 4))
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(layers.Dense(4)(layers.Masking()(inputs))))
    x = tensors_of(ROWS)[0]
    x[:, 5:] = 0
    expected = model(x)
    with asked(monkeypatch) as names:
        assert torch.equal(model(x), expected)
    assert len(names) == 4


class Pair(keras.Layer):
    def call(self, inputs):
        return inputs["x"] - inputs["y"]


def test_nodes_of_any_arguments():
    x, y = keras.Input((9, 4)), keras.Input((9, 4))
    attended = layers.MultiHeadAttention(2, 2)(x, value=y, use_causal_mask=True)
    joined = ops.concatenate([attended, x + 1.0, Pair()({"x": x, "y": y})], axis=-1)
    model = keras.Model([x, y], {"sum": ops.sum(joined, axis=[1, 2]), "joined": joined})
    inputs = tensors_of([ROWS, ROWS])
    expected = model(inputs)
    with nhwc_conv.keras.enable():
        actual = model(inputs)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_without_state():
    """Values that are given in place of the variables are those that count."""
    model, inputs = model_of(layers.Conv2D(**OPTIONS), IMAGES), tensors_of(IMAGES)
    values = [2 * v.value for v in model.trainable_variables], []
    expected, _ = model.stateless_call(*values, inputs)
    with nhwc_conv.keras.enable():
        actual, _ = model.stateless_call(*values, inputs)
    assert not torch.allclose(expected, model(inputs))
    check({"out": actual}, {"out": expected}, {"out": expected.double()})


def test_moments_without_state():
    """In training the new moments are returned; those that were given stay, as do those of the variables."""
    inner, inputs = model_of(layers.BatchNormalization(), IMAGES), tensors_of(IMAGES)
    model = model_of(inner, IMAGES)  # of the layers of a model in it, ours are the calls
    model(inputs)
    trained, moving = ([v.value.detach() + i for v in inner.layers[-1].variables[i : i + 2]] for i in (0, 2))
    expected, their_moments = model.stateless_call(trained, moving, inputs, training=True)
    kept = [*moving, *(v.value for v in model.non_trainable_variables)]
    before = [t.clone() for t in kept]
    with nhwc_conv.keras.enable():
        actual, moments = model.stateless_call(trained, moving, inputs, training=True)
    torch.testing.assert_close([actual, *moments], [expected, *their_moments])
    assert all(map(torch.equal, kept, before))
