"""The rows of all models: docs/reliability/models.json, and the page made of it, docs/models.md."""

from __future__ import annotations

import json
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from ..report import table
from ..summary import FOLDER, ROOT, processor
from .compare import LIMIT
from .zoo import MODELS

KEPT, PAGE = FOLDER / "models.json", ROOT / "docs/models.md"
# First word of a model's name: what is imported, and the distribution that it comes from.
PACKAGES = {
    "timm": ("timm", "timm"),
    "monai": ("monai.networks.nets", "monai"),
    "diffusers": ("diffusers", "diffusers"),
    "kornia": ("kornia", "kornia"),
    "pytorchcv": ("pytorchcv.model_provider", "pytorchcv"),
    "smp": ("segmentation_models_pytorch", "segmentation_models_pytorch"),
    "torchvision": ("torchvision.models.segmentation", "torchvision"),
}
HEAD = """# Models of other packages

Made by `python -m verify.models`; do not edit. Each model was built without its trained weights, given weights and
statistics as after some training, and converted in both forms: `convert(model)`, compared in training mode, and
`convert(model.eval(), inference=True, example=...)`.
Every form was compared with the original in float64, at two batch sizes and, where the model takes them, two image
sizes, of which the example shows one: outputs and gradients of the input in both forms, gradients of all parameters in
the training form, outputs without gradient (packed weights) in the inference form; outputs in float32, too.

- **converted, folded**: convolutions and BatchNorms that the inference form took, of those there are.
- **fused**: activations and additions of residuals that it took, and calls of activations (of any kind) there are.
- **left**: what it did not take, and why.
- **training, inference**: the largest error in units of what rounding does to the original's own result (how far it is
  off in float32, scaled to the dtype; see `verify/models/compare.py`). Up to {limit} is called the same: a wrong weight
  or a lost layer gives thousands.
- **deviation**: the largest in float64, relative to the largest element, of outputs and of all gradients.
"""
COLUMNS = "model|converted|folded|fused|left|training|inference|deviation|as the original".split("|")
SHOWN = 4  # reasons of a row


def load() -> dict[str, dict]:
    return json.loads(KEPT.read_text())["models"] if KEPT.exists() else {}


def save(rows: dict[str, dict]) -> None:
    """Writes both files; models come in the order of zoo.py, and those that it no longer has are dropped."""
    content = {
        "date": date.today().isoformat(),
        "processor": processor(),
        "versions": versions(),
        "models": {name: rows[name] for name in MODELS if name in rows},
    }
    partial = KEPT.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(KEPT)
    PAGE.write_text(page(content))


def versions() -> dict[str, str]:
    found = {}
    for name in ("torch", *(distribution for _, distribution in PACKAGES.values())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def page(content: dict) -> str:
    models = content["models"]
    good = sum(not row["problems"] for row in models.values())
    text = HEAD.format(limit=LIMIT) + f"\n{content['date']}, {content['processor']}, torch "
    text += f"{content['versions']['torch']}: {good} of {len(models)} models compute what the original computes.\n"
    for package, (_, distribution) in PACKAGES.items():
        rows = [cells(name, row) for name, row in models.items() if name.split()[0] == package]
        if rows:
            text += f"\n## {distribution} {content['versions'][distribution]}\n\n" + table(COLUMNS, rows)
    return text


def cells(name: str, row: dict) -> list[str]:
    form = row.get("inference", row.get("training"))
    counts = [
        f"{form[took] if form else '-'} of {row.get(kind, '-')}" if row.get(kind, 1) else "none"
        for took, kind in (("converted", "convolutions"), ("folded", "batch_norms"))
    ]
    counts.append(f"{form['fused'] if form else '-'} ({row.get('activations', '-')})")
    errors = [max(row[f]["units"].values()) if f in row else None for f in ("training", "inference")]
    shown = ["-" if e is None else f"{e:.1f}" for e in errors]
    result = "yes" if not row["problems"] else "**no**: " + "; ".join(row["problems"])
    return [name.partition(" ")[2], *counts, left(form), *shown, deviation(row), result]


def left(form: dict | None) -> str:
    """Why the rest was not taken, most frequent first."""
    said = [form["fallback"]] if form and form["fallback"] else []
    for name, what in (("left", ""), ("unfolded", ""), ("unfused", ""), ("untraced", "not traced: ")):
        reasons = (form or {}).get("reasons", {}).get(name, {})
        said += [
            f"{count} x {what}{reason.partition('. ')[0]}" for reason, count in list(reasons.items())[:SHOWN]
        ]
        said += [f"{len(reasons) - SHOWN} more reasons"] if len(reasons) > SHOWN else []
    return "<br>".join(said)


def deviation(row: dict) -> str:
    relative = [row[form]["relative"] for form in ("training", "inference") if form in row]
    outputs = [value for r in relative for kind, value in r.items() if kind == "outputs"]
    gradients = [value for r in relative for kind, value in r.items() if kind != "outputs"]
    return ", ".join(f"{max(values):.0e}" for values in (outputs, gradients) if values) or "-"
