"""Replacing the convolutions of a model, and back: `layers` walks, `classes` decides, `inference` rewrites graphs."""

from .layers import convert, revert
from .report import ConvertReport

__all__ = ["ConvertReport", "convert", "revert"]
