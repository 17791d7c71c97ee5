"""nhwc_conv.keras.enable: layers that are called without Keras' work around the call, beside those with it."""

import pytest
import torch
from on_keras import IMAGES, ROWS, VECTORS, asked, check, keras, model_of, tensors_of

import nhwc_conv

layers = keras.layers
CONVOLUTION = {"kernel_size": 3, "padding": "same", "activation": "silu"}


def stochastic_depth(**options):
    return keras.src.applications.convnext.StochasticDepth(0.2, **options)


def layer_scale(**options):
    return keras.src.applications.convnext.LayerScale(0.5, 4, **options)


# What makes the layer, its options, and the sizes of its inputs.
FORMS = {
    "conv1d": (layers.Conv1D, {"filters": 5, **CONVOLUTION}, ROWS),
    "conv2d": (layers.Conv2D, {"filters": 5, **CONVOLUTION}, IMAGES),
    "conv2d, steps": (layers.Conv2D, {"filters": 6, "kernel_size": (3, 2), "strides": 2, "groups": 2}, IMAGES),
    "conv2d, no bias": (layers.Conv2D, {"filters": 5, **CONVOLUTION, "use_bias": False}, IMAGES),
    "depthwise 1d": (layers.DepthwiseConv1D, {**CONVOLUTION, "depth_multiplier": 2}, ROWS),
    "depthwise 2d": (layers.DepthwiseConv2D, {**CONVOLUTION, "depth_multiplier": 2}, IMAGES),
    "separable 1d": (layers.SeparableConv1D, {"filters": 5, **CONVOLUTION}, ROWS),
    "separable 2d": (layers.SeparableConv2D, {"filters": 5, **CONVOLUTION, "strides": 2}, IMAGES),
    "transposed 1d": (layers.Conv1DTranspose, {"filters": 5, **CONVOLUTION}, ROWS),
    "transposed 2d": (layers.Conv2DTranspose, {"filters": 5, **CONVOLUTION, "strides": 2}, IMAGES),
    "dense": (layers.Dense, {"units": 5, "activation": "gelu"}, VECTORS),
    "dense of pixels": (layers.Dense, {"units": 5}, IMAGES),
    "dense, no bias": (layers.Dense, {"units": 5, "use_bias": False}, ROWS),
    "batch norm": (layers.BatchNormalization, {}, IMAGES),
    "batch norm, no scale": (layers.BatchNormalization, {"scale": False, "epsilon": 0.1}, ROWS),
    "batch norm, no offset": (layers.BatchNormalization, {"center": False}, VECTORS),
    "batch norm, an axis": (layers.BatchNormalization, {"axis": 1}, IMAGES),
    "layer norm": (layers.LayerNormalization, {"epsilon": 1e-2}, IMAGES),
    "layer norm, no scale": (layers.LayerNormalization, {"scale": False}, ROWS),
    "layer scale": (layer_scale, {}, IMAGES),
    "activation": (layers.Activation, {"activation": "tanh"}, IMAGES),
    "softmax": (layers.Activation, {"activation": "softmax"}, VECTORS),
    "relu": (layers.ReLU, {}, IMAGES),
    "relu, clamped": (layers.ReLU, {"max_value": 0.5}, IMAGES),
    "padding": (layers.ZeroPadding2D, {"padding": ((1, 0), (2, 3))}, IMAGES),
    "average of rows": (layers.GlobalAveragePooling1D, {}, ROWS),
    "average of images": (layers.GlobalAveragePooling2D, {"keepdims": True}, IMAGES),
    "add": (layers.Add, {}, [IMAGES, IMAGES, IMAGES]),
    "multiply": (layers.Multiply, {}, [IMAGES, (2, 1, 1, 4)]),
    "concatenate": (layers.Concatenate, {}, [IMAGES, IMAGES]),
    "dropout": (layers.Dropout, {"rate": 0.5}, IMAGES),
    "dropout of rows": (layers.SpatialDropout1D, {"rate": 0.5}, ROWS),
    "dropout of images": (layers.SpatialDropout2D, {"rate": 0.5}, IMAGES),
    "stochastic depth": (stochastic_depth, {}, IMAGES),
    "max of rows": (layers.MaxPooling1D, {"pool_size": 2}, ROWS),
    "max": (layers.MaxPooling2D, {"pool_size": 2}, IMAGES),
    "averages of rows": (layers.AveragePooling1D, {"pool_size": 2}, ROWS),
    "averages": (layers.AveragePooling2D, {"pool_size": 2}, IMAGES),
    "the greatest of rows": (layers.GlobalMaxPooling1D, {}, ROWS),
    "the greatest": (layers.GlobalMaxPooling2D, {}, IMAGES),
    "cropping": (layers.Cropping2D, {"cropping": 1}, IMAGES),
    "up": (layers.UpSampling2D, {}, IMAGES),
    "reshape": (layers.Reshape, {"target_shape": (2, -1)}, IMAGES),
    "flatten": (layers.Flatten, {}, IMAGES),
    "identity": (layers.Identity, {}, IMAGES),
}  # fmt: skip


def of_form(form, dtype="float32"):
    keras.utils.set_random_seed(0)
    make, options, shapes = FORMS[form]
    inputs = [x.to(getattr(torch, dtype)) for x in tensors_of(shapes)]
    return model_of(make(dtype=dtype, **options), shapes), inputs


def computed(model, inputs, training=False):
    """The result, the gradients and the variables behind the call."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = model(inputs, training=training)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    trained = {f"variable {i}": v.value for i, v in enumerate(model.trainable_variables)}
    wanted = {f"input {i}": x for i, x in enumerate(inputs)} | trained
    found = dict(zip(wanted, torch.autograd.grad(out, list(wanted.values()), direction), strict=True))
    kept = {f"kept {i}": v.value.to(out.dtype) for i, v in enumerate(model.non_trainable_variables)}
    return {"out": out.detach(), **found, **kept}


def test_each_layer_that_is_called_directly_is_here():
    from nhwc_conv.keras import direct

    assert {type(of_form(form)[0].layers[-1]) for form in FORMS} == set(direct.TABLE)


@pytest.mark.parametrize("form", FORMS)
def test_layers_in_inference(form, monkeypatch):
    model, inputs = of_form(form)
    with torch.no_grad():
        expected = model(inputs, training=False)
        wide, same = of_form(form, "float64")
        answer = wide(same, training=False)
        with asked(monkeypatch) as names:
            out = model(inputs, training=False)
    assert names == [model.name]
    check({"out": out}, {"out": expected}, {"out": answer})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_layers_and_gradients(form, training, monkeypatch):
    model, inputs = of_form(form)
    theirs = computed(model, inputs, training)
    answer = theirs
    if not any("seed" in v.name for v in model.variables):  # else float64 would draw other numbers
        answer = computed(*of_form(form, "float64"), training)
    model, inputs = of_form(form)
    with asked(monkeypatch) as names:
        actual = computed(model, inputs, training)
    assert names == [model.name]
    check(actual, theirs, answer)


@pytest.mark.parametrize("most", [None, 6, 0.5])
def test_gradients_at_the_ends_of_relu(most, monkeypatch):
    x = torch.tensor([[-1.0, -0.0, 0.0, 0.25, 0.5, 6.0, 7.0]])
    model = model_of(layers.ReLU(max_value=most), x.shape)
    theirs = computed(model, [x])
    with asked(monkeypatch) as names:
        actual = computed(model, [x])
    assert names == [model.name] and torch.equal(actual["input 0"] == 0, theirs["input 0"] == 0)


def halved(x):
    return x / 2


def replaced(layer):
    layer.activation = halved


CHANGES = {
    "kernel": ("conv2d", lambda layer: layer.kernel.assign(layer.kernel * 3)),
    "in place": ("dense of pixels", lambda layer: layer.kernel.value.data.mul_(3)),
    "bias": ("separable 2d", lambda layer: layer.bias.assign(layer.bias + 1)),
    "no bias": ("conv2d", lambda layer: setattr(layer, "use_bias", False)),
    "a function": ("depthwise 2d", replaced),
    "moments": ("batch norm", lambda layer: layer.moving_variance.assign(layer.moving_variance * 4)),
    "scale": ("layer norm", lambda layer: layer.gamma.assign(layer.gamma * 4)),
    "epsilon": ("batch norm", lambda layer: setattr(layer, "epsilon", 1.0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_seen(change, monkeypatch):
    form, function = CHANGES[change]
    model, inputs = of_form(form)
    wide, same = of_form(form, "float64")
    with asked(monkeypatch) as names, torch.no_grad():
        before = model(inputs)
        function(model.layers[-1])
        after = model(inputs)
    function(wide.layers[-1])
    assert names == [model.name] * 2 and not torch.allclose(before, after)
    with torch.no_grad():
        check({"out": after}, {"out": model(inputs)}, {"out": wide(same)})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rows", [31, 32])
def test_dense_layers_of_many_rows_are_convolutions(rows, training, monkeypatch):
    from nhwc_conv.keras import direct

    calls, original = [], direct.conv2d
    monkeypatch.setattr(direct, "conv2d", lambda *args: calls.append(args) or original(*args))
    model, inputs = model_of(layers.Dense(5), VECTORS), torch.randn(rows, VECTORS[1])
    expected = model(inputs, training=training)
    with asked(monkeypatch):
        torch.testing.assert_close(model(inputs, training=training), expected)
    assert len(calls) == (rows >= direct.MANY_ROWS)


def test_variables_are_tracked_once_and_anew():
    """By torch's module, the same after a step as before it, and those that have taken the place of others."""
    model = model_of(layers.Dense(5), VECTORS)
    model.compile("sgd", "mse")
    step = torch.randn(VECTORS), torch.randn(VECTORS[0], 5)
    with nhwc_conv.keras.enable():
        model.train_on_batch(*step)
        before = model.torch_params
        model.train_on_batch(*step)
        assert model.torch_params is before
        kernel = model.layers[-1]._kernel
        kernel._value = torch.nn.Parameter(kernel._value.detach() + 1)
        model.train_on_batch(*step)
    assert any(p is kernel.value for p in model.torch_params.values())
