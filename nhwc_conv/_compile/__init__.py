"""The backend of torch.compile: an unmodified model's convolutions become this package's, Inductor does the rest.

`backend` is what torch.compile calls; `rewrite` goes through a graph: modules become functions (`modules`), calls of
these are read (`calls`) and computed by ops (`convolutions`), and `graph` is what all of them ask of nodes.
"""

from .backend import compile_backend
from .rewrite import constants_of, use_nhwc_conv

__all__ = ["compile_backend", "constants_of", "use_nhwc_conv"]
