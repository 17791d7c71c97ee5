"""Keras on PyTorch without the transposes. Nothing of Keras is imported before one of these functions is called."""

from .switch import Enabled, disable, enable, prepare

__all__ = ["Enabled", "disable", "enable", "prepare"]
