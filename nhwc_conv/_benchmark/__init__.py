"""How fast a model is as it is, and in every form that this package gives it.

`public` is what users call, `checks` refuses what it cannot time, `forms` makes the forms, `timing` times
them by turns. `layers` times the convolutions inside a model, beside what `machine` measures of the
processor. `report` holds all of it, and `picture` draws it.
"""

from .public import benchmark
from .report import BenchmarkReport, FormTime, LayerTime

__all__ = ["BenchmarkReport", "FormTime", "LayerTime", "benchmark"]
