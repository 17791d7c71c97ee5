"""verify.models on a small model of our own: it sees what is wrong, and says what was taken."""

import os

import pytest
import torch
from torch import nn

import nhwc_conv
from verify.models import __main__, table, trial
from verify.models.compare import LIMIT
from verify.models.zoo import Entry


class Branch(nn.Module):
    """Two convolutions with BatchNorm and ReLU, and one that nothing follows, last and of constant weights."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, groups=2), nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 2, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        return {"y": self.last(torch.relu(self.norm2(self.conv2(x))))}


ENTRY = Entry(Branch, sizes=(8, 11))


def test_a_model_that_converts_well():
    row = trial.trial(ENTRY)
    assert (
        row["problems"] == [] and row["convolutions"] == 3 and row["batch_norms"] == row["activations"] == 2
    )
    assert {name: row["inference"][name] for name in ("converted", "folded", "fused", "cases")} == {
        "converted": 3, "folded": 2, "fused": 2, "cases": 4
    }  # fmt: skip
    for form, kinds in (("training", 5), ("inference", 4)):
        units = row[form]["units"]
        assert len(units) == kinds and all(0 < value <= LIMIT for value in units.values())
        assert all(value < 1e-12 for value in row[form]["relative"].values())


def test_nothing_starts_out_dead():
    model = trial.original(ENTRY)
    model(trial.arguments(ENTRY, 2, 8, torch.float32)[0])["y"].square().sum().backward()
    # A shift before a BatchNorm has no gradient but rounding errors.
    assert all(p.grad.abs().max() > 1e-3 for name, p in model.named_parameters() if name != "conv2.bias")


def disturbed(parameter, by):
    def convert(model, **options):
        model = real(model, **options)
        with torch.no_grad():
            getattr(model.get_submodule("conv2"), parameter).view(-1)[0].mul_(1 + by)
        return model

    real = nhwc_conv.convert
    return convert


@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_one_wrong_weight_is_seen(monkeypatch, parameter):
    monkeypatch.setattr(nhwc_conv, "convert", disturbed(parameter, by=1e-5))
    problems = trial.trial(ENTRY)["problems"]
    wrong = {"weight": ["training", "inference"], "bias": ["inference"]}[parameter]
    assert [
        form for form in trial.BATCHES if any(p.startswith(f"{form}: outputs are off") for p in problems)
    ] == wrong


def test_a_lost_output_is_seen(monkeypatch):
    class Other(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            y = self.model(x)["y"]
            return y[:, :, :4] if x.shape[-1] > 8 else y

    real = nhwc_conv.convert
    monkeypatch.setattr(nhwc_conv, "convert", lambda model, **options: Other(real(model, **options)))
    assert "training: outputs are off by inf units" in "\n".join(trial.trial(ENTRY)["problems"])


def test_what_a_conversion_raises_is_a_row(monkeypatch):
    def convert(model, inference=False, **options):
        if inference:
            raise TypeError("no\nsuch luck")
        return real(model, **options)

    real = nhwc_conv.convert
    monkeypatch.setattr(nhwc_conv, "convert", convert)
    row = trial.trial(ENTRY)
    assert row["problems"] == ["inference: TypeError: no (in convert)"] and row["training"]["converted"] == 3
    assert table.cells("toy branch", row)[-1] == "**no**: inference: TypeError: no (in convert)"


def test_a_missing_package_is_a_row():
    row = trial.trial(Entry(lambda: __import__("no_such_package")))
    assert row["problems"][0].startswith(
        "the original: ModuleNotFoundError: No module named 'no_such_package'"
    )
    assert table.cells("toy missing", row)[1] == "- of -"


def test_the_death_of_a_process_is_a_row(monkeypatch):
    monkeypatch.setattr(
        __main__, "work", lambda name, path: os._exit(3) if name == "bad" else path.write_text("{}")
    )
    rows = dict(__main__.in_processes(["bad", "good"], jobs=2))
    assert rows["bad"]["problems"] == ["its process ended, code 3"] and rows["good"] == {}


def test_a_model_without_end_is_a_row(monkeypatch):
    monkeypatch.setattr(__main__, "work", lambda name, path: __import__("time").sleep(60))
    monkeypatch.setattr(__main__, "TIMEOUT", 0.1)
    ((_, row),) = __main__.in_processes(["slow"], jobs=1)
    assert row["problems"] == ["no end after 0.1 seconds, code -9"]


def test_the_page_tells_what_was_left():
    row = trial.trial(ENTRY)
    row["inference"]["reasons"]["left"] = {"ConvTranspose2d: why": 2}
    row["inference"]["reasons"]["untraced"] = {f"reason {i}": 1 for i in range(9)}
    content = {"date": "2000-01-01", "processor": "none", "versions": table.versions()}
    page = table.page(content | {"models": {"timm branch": row, "kornia branch": {"problems": ["worse"]}}})
    assert "1 of 2 models compute what the original computes" in page and "**no**: worse" in page
    assert "| branch | 3 of 3 | 2 of 2 | 2 (2) | 2 x ConvTranspose2d: why<br>1 x not traced: reason 0" in page
    assert "5 more reasons" in page and "| yes |" in page
