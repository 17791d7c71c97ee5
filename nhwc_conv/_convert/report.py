"""What `convert` did to a model."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ConvertReport:
    """What `convert` did, by the paths of named_modules(); a layer that stands in several places has several.

    Attributes:
        converted: path of a convolution -> "", or what else is to be said of it.
        left: path of a convolution that stays as it was -> why.
        folded: path of a BatchNorm -> path of the convolution that it went into.
        fused: path of a ReLU, or the name of its call in the graph -> path of the convolution that applies it.
        untraced: path of a module whose graph torch.fx cannot show -> what torch.fx said.
        deviation, tolerance: how far the result on the example went from the original's, and how far it might.
    """

    converted: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    fused: dict[str, str] = field(default_factory=dict)
    untraced: dict[str, str] = field(default_factory=dict)
    deviation: float | None = None
    tolerance: float | None = None

    def __str__(self) -> str:
        counts = [f"{len(self.converted)} converted", f"{len(self.left)} left"]
        if self.deviation is not None:
            counts += [f"{len(self.folded)} BatchNorms folded", f"{len(self.fused)} ReLUs fused"]
            counts.append(f"deviation {self.deviation:.2g} of at most {self.tolerance:.2g}")
        lines = ["nhwc_conv.convert: " + ", ".join(counts)]
        for word, rows, link in (
            ("converted", self.converted, ": "),
            ("left", self.left, ": "),
            ("folded", self.folded, " into "),
            ("fused", self.fused, " into "),
            ("untraced", self.untraced, ": "),
        ):
            for path, text in rows.items():
                lines.append(f"  {word:9}  {path or '(the model)'}{link + text if text else ''}")
        return "\n".join(lines)
