"""What `benchmark` found."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

ORIGINALS = "original, NCHW", "original, channels_last"


@dataclass
class FormTime:
    """How long a form of the model takes, or why that is not known.

    Attributes:
        seconds: of a call, one number for each round; empty where the form failed.
        error: why it failed; "" if it did not.
        note: what else is to be said of it.
        deviation, tolerance: how far its result on the example is from the original's, and may be.
        kernels: passes of this extension's kernels in a call; 0 where aten or a compiler convolves.
        between: seconds of a call that are not spent in them, for each of them.
    """

    seconds: list[float] = field(default_factory=list)
    error: str = ""
    note: str = ""
    deviation: float | None = None
    tolerance: float | None = None
    kernels: int = 0
    between: float = 0.0

    @property
    def median(self) -> float:
        """Seconds of a call, the median of the rounds.

        Raises:
            ValueError: the form failed.
        """
        if not self.seconds:
            raise ValueError(f"there is no time of a form that failed: {self.error}")
        return statistics.median(self.seconds)


@dataclass
class LayerTime:
    """How long a call of a convolution takes inside the model that `convert(inference=True)` returns.

    Attributes:
        path: of the layer in that model; a layer that is called twice has two rows.
        algorithm: that of nhwc_conv.explain, which speaks of weights that are not packed; "PyTorch" where
            aten computes.
        x_shape, w_shape: as the layer has them: NCHW and OIHW, or NHWC and HWIO.
        seconds: the median of the calls.
        flops: multiplications and additions of the direct algorithm, padding counted.
        limit: what would take longest if nothing else took time: "arithmetic", "memory" or "overhead"; "" if
            that is not known.
        share: the part of `seconds` that this alone explains; above 1 where the data was nearer than that of
            the copy that stands for memory.
    """

    path: str
    algorithm: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    seconds: float
    flops: int
    limit: str = ""
    share: float = 0.0

    @property
    def gflops(self) -> float:
        """Billions of `flops` a second."""
        return self.flops / self.seconds * 1e-9


@dataclass(repr=False)
class BenchmarkReport:
    """Figures of nhwc_conv.benchmark; str() of it is the table.

    Attributes:
        machine: versions, instruction set, threads.
        forms: by name; the first two are the original in both memory formats.
        layers: the convolutions in the order of their calls; empty unless asked for.
        layers_error: why there are none although they were asked for; "" otherwise.
    """

    machine: str
    forms: dict[str, FormTime] = field(default_factory=dict)
    layers: list[LayerTime] = field(default_factory=list)
    layers_error: str = ""

    @property
    def baseline(self) -> str | None:
        """The name of the faster original, with which all are compared; None where both failed."""
        timed = [name for name in ORIGINALS if name in self.forms and self.forms[name].seconds]
        return min(timed, key=lambda name: self.forms[name].median, default=None)

    def speed_up(self, form: str) -> float:
        """How many times as fast as the faster original a form is.

        Raises:
            KeyError: there is no such form. ValueError: it failed, or both originals did.
        """
        median = self.forms[form].median
        if self.baseline is None:
            raise ValueError("both originals failed, so there is nothing to compare with")
        return self.forms[self.baseline].median / median

    def __repr__(self) -> str:
        timed = sum(bool(form.seconds) for form in self.forms.values())
        return f"<BenchmarkReport: {timed} of {len(self.forms)} forms timed, {len(self.layers)} layers>"

    def __str__(self) -> str:
        lines = [f"nhwc_conv.benchmark: {self.machine}"]
        width = max(map(len, self.forms), default=0)
        lines += [f"  {name:{width}}  {self._cells(name)}" for name in self.forms]
        if self.layers_error:
            lines += ["", f"  layers failed: {self.layers_error}"]
        return "\n".join([*lines, *(layer_lines(self.layers) if self.layers else [])])

    def _cells(self, name: str) -> str:
        form = self.forms[name]
        if form.error:
            return f"failed: {form.error}"
        ratio = "" if self.baseline is None else f"  {self.speed_up(name):6.2f}x"
        off = (
            "" if form.deviation is None else f"  off by {form.deviation:.2g} of at most {form.tolerance:.2g}"
        )
        apart = f"; {form.kernels} kernels, {1e6 * form.between:.1f} us apart" if form.kernels else ""
        return f"{1e3 * form.median:9.3f} ms{ratio}{off}{apart}{'; ' + form.note if form.note else ''}"


def layer_lines(layers: list[LayerTime]) -> list[str]:
    """The table of the layers, and what limits how much of their time."""
    total = sum(layer.seconds for layer in layers)
    rows: list[tuple[str, ...]] = [("ms", "%", "GFLOP/s", "limited by", "algorithm", "x", "w", "layer")]
    for layer in layers:
        limit = f"{layer.limit} {100 * layer.share:.0f} %" if layer.limit else ""
        figures = f"{1e3 * layer.seconds:.3f}", f"{100 * layer.seconds / total:.1f}", f"{layer.gflops:.1f}"
        shapes = ("x".join(map(str, shape)) for shape in (layer.x_shape, layer.w_shape))
        rows.append((*figures, limit, layer.algorithm, *shapes, layer.path or "(the model)"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "",
        "  convolutions after conversion for inference, and the part of their time that a limit explains",
    ]
    for row in rows:
        cells = (
            c.rjust(w) if i < 3 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(("  " + "  ".join(cells)).rstrip())
    times: dict[str, float] = {}
    for layer in layers:
        times[layer.limit or "unknown"] = times.get(layer.limit or "unknown", 0) + layer.seconds
    longest_first = sorted(times, key=times.__getitem__, reverse=True)
    shares = ", ".join(f"{limit} {100 * times[limit] / total:.0f} %" for limit in longest_first)
    return [*lines, f"  of {1e3 * total:.3f} ms in convolutions, by limit: {shares}"]
