"""What `convert` did to a model."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass
class ConvertReport:
    """What `convert` did, by the paths of named_modules(); a layer that stands in several places has several.

    Attributes:
        converted: path of a convolution -> "", or what else is to be said of it.
        linear: path of a Linear that is computed as a 1x1 convolution -> "".
        left: path of a convolution that stays as it was -> why.
        folded: path of a BatchNorm -> path of the convolution that it went into.
        unfolded: path of a BatchNorm that stays as it was -> why.
        fused: path of an activation, or the name of a call of one or of a sum in the graph -> path of the convolution
            that does it.
        unfused: path of an activation, or the name of such a call, that is computed on its own -> why.
        untraced: path of a module that stays as it was, but for the modules in it -> why torch.fx does not show it.
        memory: how images lie in memory where that was changed, else "".
        fallback: why less was converted than could be; "" if nothing stood against it.
        advice: what else could make the model faster.
        seconds: of a forward pass on the example, without `inference`: of the model as it was and converted, as it is
            and in channels_last.
        deviation, tolerance: how far the result on the example went from the original's, and how far it might.
    """

    converted: dict[str, str] = field(default_factory=dict)
    linear: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    unfolded: dict[str, str] = field(default_factory=dict)
    fused: dict[str, str] = field(default_factory=dict)
    unfused: dict[str, str] = field(default_factory=dict)
    untraced: dict[str, str] = field(default_factory=dict)
    memory: str = ""
    fallback: str = ""
    advice: list[str] = field(default_factory=list)
    seconds: dict[str, float] | None = None
    deviation: float | None = None
    tolerance: float | None = None

    def update(self, other: ConvertReport) -> None:
        """Adds what `other` says of modules."""
        for name in TABLES:
            getattr(self, name).update(getattr(other, name))
        self.memory = self.memory or other.memory

    def __str__(self) -> str:
        counts = [f"{len(self.converted)} converted", f"{len(self.left)} left"]
        if self.deviation is not None:
            counts += [
                f"{len(self.folded)} BatchNorms folded",
                f"{len(self.fused)} activations and sums fused",
            ]
            counts.append(f"deviation {self.deviation:.2g} of at most {self.tolerance:.2g}")
        lines = ["nhwc_conv.convert: " + ", ".join(counts)]
        lines += [f"  fallback   {self.fallback}"] if self.fallback else []
        lines += [f"  memory     {self.memory}"] if self.memory else []
        for word in TABLES:
            link = " into " if word in ("folded", "fused") else ": "
            for path, text in getattr(self, word).items():
                lines.append(f"  {word:9}  {path or '(the model)'}{link + text if text else ''}")
        lines += [f"  {1e3 * time:9.3g}  ms, {name}" for name, time in (self.seconds or {}).items()]
        lines += [f"  advice     {text}" for text in self.advice]
        return "\n".join(lines)


TABLES = [f.name for f in fields(ConvertReport) if f.default_factory is dict]
