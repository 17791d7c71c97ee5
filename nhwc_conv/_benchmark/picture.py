"""A picture of a report, by matplotlib."""

from __future__ import annotations

import os

from .report import BenchmarkReport

COLOURS = {"arithmetic": "tab:blue", "memory": "tab:orange", "overhead": "tab:red", "": "tab:gray"}


def draw(report: BenchmarkReport, path: str | os.PathLike[str]) -> None:
    """Writes bars of the forms' speed and of the layers' times, if any, coloured by what limits them."""
    from matplotlib.figure import Figure  # not pyplot, whose backend is the user's to choose

    names = [name for name, form in report.forms.items() if form.seconds]
    heights = [0.35 * len(names) + 0.8, 0.16 * len(report.layers) + 0.8][: 2 if report.layers else 1]
    figure = Figure(figsize=(8, sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(heights), height_ratios=heights)
    draw_forms(report, names, figure.add_subplot(grid[0]))
    if report.layers:
        draw_layers(report, figure.add_subplot(grid[1]))
    figure.suptitle(report.machine, fontsize=9)
    figure.savefig(path, dpi=110)


def draw_forms(report: BenchmarkReport, names: list[str], axis: object) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    if report.baseline is None:
        values, what = [1e3 * report.forms[name].median for name in names], "ms"
    else:
        values, what = [report.speed_up(name) for name in names], "speed, relative to the faster original"
        axis.axvline(1, color="black", linewidth=0.8)
    axis.barh(range(len(names)), values)
    for at, value in enumerate(values):
        axis.text(value, at, f" {value:.2f}", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel(what, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)


def draw_layers(report: BenchmarkReport, axis: object) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    assert isinstance(axis, Axes)
    colours = [COLOURS[layer.limit] for layer in report.layers]
    rows = range(len(report.layers))
    axis.barh(rows, [1e3 * layer.seconds for layer in report.layers], color=colours)
    axis.set_yticks(rows, [layer.path or "(the model)" for layer in report.layers], fontsize=6)
    axis.set_xlabel("ms of each convolution", fontsize=8)
    axis.invert_yaxis()
    axis.margins(y=0.01)
    limits = dict.fromkeys(layer.limit for layer in report.layers)
    handles = [Patch(color=COLOURS[limit], label=limit or "unknown") for limit in limits]
    axis.legend(handles=handles, title="limited by", fontsize=7, title_fontsize=7)
