"""What every drop-in for a convolution of torch.nn has to do, beside the layer that it stands for."""

import copy
import pickle

import pytest
import torch

# Half precision is rounded once here, and by aten as often as it likes.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def pair(classes, dtype, *args, **kwargs):
    """torch's layer, and ours of the same seed."""
    layers = []
    for cls in classes:
        torch.manual_seed(0)
        layers.append(cls(*args, **kwargs, dtype=dtype))
    return layers


def check_rows(theirs, ours, x, dtype):
    """Results of layers of [N, C, L], of any strides, and that autograd lets them be changed."""
    exact = copy.deepcopy(theirs).double()
    channels_last = x.transpose(1, 2).contiguous().transpose(1, 2)
    for given in (x, channels_last, x[:, :, ::2], x[0], x[:0]):
        out, expected = ours(given), exact(given.double())
        assert out.dtype == dtype and out.is_contiguous()
        torch.testing.assert_close(out.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    with torch.no_grad():
        out = ours(x)
    with torch.inference_mode():
        assert torch.equal(ours(x), out)
    check_no_view(out)


def check_no_view(out):
    """Of a result computed without gradients: autograd would refuse to change a view in place."""
    out.add_(torch.ones((), dtype=out.dtype, requires_grad=True))
    assert out.requires_grad


def check_exchange(ours, theirs, others, *algorithm):
    """The drop-in class `ours` from the layer `theirs`, and back; not from `others`, nor from one that does more."""
    cls = type(theirs)
    layer = ours.from_torch(theirs, *algorithm)
    assert type(layer) is ours and layer.weight is theirs.weight
    assert not algorithm or (layer.algorithm,) == algorithm
    back = layer.to_torch()
    assert type(back) is cls and back.weight is theirs.weight and not hasattr(back, "algorithm")
    theirs.forward = lambda x: x
    for module in (theirs, *others):
        with pytest.raises(ValueError, match=f"expected a torch.nn.{cls.__name__} that"):
            ours.from_torch(module)


def check_gradients(theirs, ours, x):
    """Of first and second order."""
    found, expected = [], []
    for layer, gradients in ((ours, found), (theirs, expected)):
        parameters = [x, *layer.parameters()]
        first = torch.autograd.grad(layer(x).sin().sum(), parameters, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), parameters)
        gradients += [*first, *second]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def check_raises_the_same(call, things):
    """The type and the words of what call(thing) raises, for torch's and ours."""
    raised = []
    for thing in things:
        with pytest.raises(Exception) as error:
            call(thing)
        raised.append((type(error.value), str(error.value)))
    assert raised[0] == raised[1]


def check_copies(ours, x):
    """Copies, and compiled ones, compute the same; autocast applies."""
    expected = ours(x)
    for layer in (
        copy.deepcopy(ours),
        pickle.loads(pickle.dumps(ours)),
        torch.compile(ours, backend="aot_eager"),
    ):
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.float()(x.float()).dtype == torch.bfloat16
