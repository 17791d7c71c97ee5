"""Quantisation: eager mode says that it leaves our layers alone; reverted models are quantised like the original."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

import nhwc_conv

pytestmark = [
    # torch.ao.quantization says of itself that it will go.
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
    pytest.mark.filterwarnings("ignore:Please use quant_min"),
]
quantization = pytest.importorskip("torch.ao.quantization", reason="this torch has no torch.ao.quantization")
if "x86" not in torch.backends.quantized.supported_engines:
    pytest.skip("this torch has no quantised kernels for x86", allow_module_level=True)


def original():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LAYERS = nhwc_conv.Conv2d(3, 4, 3), nhwc_conv.NHWCConv2d(3, 4, 3), nhwc_conv.NHWCConvTranspose2d(3, 4, 3)


def eager(model):
    model.qconfig = quantization.get_default_qconfig("x86")
    model = quantization.QuantWrapper(model)
    prepared = quantization.prepare(model)
    prepared(IMAGE)
    return quantization.convert(prepared)


def by_fx(model):
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    prepared = prepare_fx(model, quantization.get_default_qconfig_mapping("x86"), (IMAGE,))
    prepared(IMAGE)
    return convert_fx(prepared)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_eager_quantisation_is_told(layer):
    with pytest.warns(
        UserWarning, match=rf"nhwc_conv\.{type(layer).__name__} in floating point: quantise the model"
    ):
        layer.qconfig = quantization.get_default_qconfig("x86")
    assert layer.qconfig is not None
    layer.qconfig = None
    del layer.qconfig
    assert not hasattr(layer, "qconfig")


def test_eager_quantisation_of_a_converted_model_warns():
    with pytest.warns(UserWarning, match="leaves nhwc_conv.Conv2d in floating point"):
        eager(nhwc_conv.convert(original()))


@pytest.mark.parametrize("quantise", [eager, by_fx])
def test_a_reverted_model_is_quantised_like_the_original(quantise):
    reverted, expected = quantise(nhwc_conv.revert(nhwc_conv.convert(original()))), quantise(original())
    assert torch.equal(reverted(IMAGE), expected(IMAGE))
    assert str(reverted) == str(expected) and "Quantized" in str(expected)


@pytest.mark.parametrize("quantise", [eager, by_fx])
def test_convert_takes_what_was_not_quantised(quantise):
    quantised = quantise(original())
    model = nn.Sequential(quantised, nn.Conv2d(4, 5, 3)).eval()
    expected = model(IMAGE)
    reports = []
    converted = nhwc_conv.convert(model, report=reports.append)
    assert list(reports[0].converted) == ["1"]
    torch.testing.assert_close(converted(IMAGE), expected)


def by_pt2e(model):
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(model, (IMAGE,)).module(), quantizer)
    prepared(IMAGE)
    return convert_pt2e(prepared)


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
def test_pt2e_of_a_reverted_model():
    reverted, expected = by_pt2e(nhwc_conv.revert(nhwc_conv.convert(original()))), by_pt2e(original())
    assert "quantized_decomposed" in expected.code and reverted.code == expected.code
    assert torch.equal(reverted(IMAGE), expected(IMAGE))
