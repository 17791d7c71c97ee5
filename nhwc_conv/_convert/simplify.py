"""A model made simpler for inference, in the largest parts of it that torch.fx shows as they are."""

from __future__ import annotations

from typing import Any, TypeGuard

from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from ..nn.linear import FusedLinear
from ..nn.packed import Prepackable
from ..nn.twin import shallow_copy
from .activations import ACTIVATIONS
from .affine import fold_affine
from .attention import complete_masks
from .branches import merge_branches
from .calls import Calls, check_layer
from .classes import CONVOLUTION, Subclasses, how_taken
from .dimensions import assert_dimensions_once
from .excitation import use_channel_layer
from .fold import NORMS, fold_batch_norms, use_depthwise_layers
from .functions import layers_of_functions, sole_layer
from .fuse import fuse_finishes
from .graph import remove_unread
from .idle import remove_idle
from .images import use_image_layer
from .kinds import assert_kind
from .layers import layer_of_ours
from .lengths import scale_once, sum_squares
from .memory import keep_channels_last
from .own import layer_with_same_padding, pads_same
from .pooling import use_pooling_layer
from .programs import join_convolutions
from .report import ConvertReport
from .rows import fold_rows
from .scales import fold_scales
from .shuffle import name_shuffles
from .tracing import Tracer, computes_as, has_hooks, traced
from .written_out import name_activations

UNSEEN = "no graph shows what it follows"
UNCALLED = "the example does not call it"


class Simplifier:
    """Makes models that compute what others, in eval mode, compute: with fewer steps, and by layers of ours.

    The others stay as they are. Without `calls`, those of the whole model, only the layers are replaced. With `memory`
    images may lie in another order in it.
    """

    def __init__(
        self, calls: Calls | None, subclasses: Subclasses, found: ConvertReport, memory: bool = False
    ) -> None:
        self.calls, self.subclasses, self.found, self.memory = calls, subclasses, found, memory
        self.made: dict[nn.Module, nn.Module] = {}

    def __call__(self, model: nn.Module, path: str = "") -> nn.Module:
        """What stands in for `model`, which is at `path`: one for all places where it stands; maybe itself."""
        if model not in self.made:
            self.made[model] = self._make(model, path)
        return self.made[model]

    def _make(self, model: nn.Module, path: str) -> nn.Module:
        if isinstance(model, (CONVOLUTION, Prepackable)):
            taken = None if self.calls is None else self._subclass(model, self.calls)
            return taken or layer_of_ours(model, self.subclasses, shallow_copy)
        if self.calls is not None and is_linear(model):
            self.found.linear[path] = ""
            return FusedLinear.from_torch(model)
        holder = isinstance(model, (nn.ModuleList, nn.ModuleDict))
        if not may_convolve(model) or (not holder and Tracer().is_layer(model, path)):
            return model
        if self.calls is not None and not holder:
            try:
                return self._of_graph(model, path, self.calls)
            except Exception as error:  # tracing runs the model's own code, which may raise anything
                self.found.untraced[path] = f"{error}".partition("\n")[0] or type(error).__name__
        if "forward" in vars(model):  # bound to `model`: a copy would go on calling that
            self._leave(model, path)
            return model
        copied: nn.Module = shallow_copy(model, type_before_parametrizations(model))
        for name, child in model._modules.items():
            if child is not None:
                copied._modules[name] = self(child, f"{path}.{name}" if path else name)
        return copied

    def _subclass(self, model: nn.Module, calls: Calls) -> nn.Module | None:
        """A plain layer that computes what a subclass of nn.Conv2d does, if that is to be had."""
        cls: Any = type_before_parametrizations(model)
        if not isinstance(model, nn.Conv2d) or isinstance(model, Prepackable) or cls is nn.Conv2d:
            return None
        if has_hooks(model) or "forward" in vars(model):
            return None
        layer: nn.Module | None
        if pads_same(cls):
            how, layer = how_taken(model), layer_with_same_padding(model)
        else:
            try:
                graph = traced(model, *calls.constants_of(model))
                check_layer(model, graph)
                how, layer = "what its forward computes of its weight is computed once", sole_layer(graph)
            except Exception:  # of the model's own code
                return None
        for place, module in calls.model.named_modules(remove_duplicate=False) if layer is not None else ():
            if module is model:
                self.found.left.pop(place, None)
                self.found.converted[place] = how
        return layer

    def _leave(self, model: nn.Module, path: str) -> None:
        for name, _ in model.named_modules(prefix=path):
            if self.found.converted.pop(name, None) is not None:
                where = repr(path) if path else "a model"
                self.found.left[name] = f"inside {where}, whose forward was replaced on the instance"

    def _of_graph(self, model: nn.Module, path: str, calls: Calls) -> fx.GraphModule:
        if has_hooks(model):
            raise TypeError("it has hooks")
        graph = traced(model, *calls.constants_of(model), calls.kind)
        calls.check_path(model, graph)
        if graph.kind is not None:
            assert_kind(graph, graph.kind)
        prefix, found = path + "." if path else "", ConvertReport()
        for target in dict.fromkeys(n.target for n in graph.graph.nodes if n.op == "call_module"):
            graph.set_submodule(target, self(graph.get_submodule(target), prefix + target))
        inputs = calls.dimensions.get(model, {})
        fold_rows(graph, found, prefix, calls.dimensions, inputs)
        simplify(graph, found, prefix, self.memory and not path, inputs)
        self.found.update(found)
        return graph


def simplify(
    graph: fx.GraphModule,
    found: ConvertReport,
    prefix: str = "",
    memory: bool = False,
    inputs: dict[str, int] | None = None,
) -> None:
    """Fewer steps in a graph whose modules are ours already.

    `inputs`: how many dimensions each of them has, if that is known.
    """
    remove_idle(graph)
    complete_masks(graph)
    name_shuffles(graph)
    layers_of_functions(graph, found, prefix)
    fold_batch_norms(graph, found, prefix)
    merge_branches(graph, found, prefix)
    fold_scales(graph, found, prefix, inputs or {})
    assert_dimensions_once(graph)
    remove_unread(graph)
    use_depthwise_layers(graph)
    name_activations(graph)
    sum_squares(graph)
    scale_once(graph)
    fuse_finishes(graph, found, prefix)
    fold_affine(graph, found, prefix)
    for node in list(graph.graph.nodes):
        use_channel_layer(graph, node) or use_pooling_layer(graph, node) or use_image_layer(graph, node)
    if memory and keep_channels_last(graph):
        found.memory = "channels_last from the first convolutions to the results"
    remove_unread(graph)
    join_convolutions(graph)
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()


def report_unseen(model: nn.Module, converted: nn.Module, found: ConvertReport) -> None:
    """Adds the BatchNorms and activations of `model` of which no graph told anything."""
    kept = dict(converted.named_modules())
    for path, module in model.named_modules():
        for classes, taken, left in (
            (NORMS, found.folded, found.unfolded),
            (ACTIVATIONS, found.fused, found.unfused),
        ):
            if isinstance(module, classes) and path not in taken:
                left.setdefault(path, UNSEEN if path in kept else UNCALLED)


def may_convolve(model: nn.Module) -> bool:
    """Whether a model has a layer to convert, or a tensor that F.conv1d or F.conv2d could take as weight."""
    layers = any(isinstance(m, (CONVOLUTION, Prepackable)) or is_linear(m) for m in model.modules())
    return layers or any(p.dim() in (3, 4) for p in model.parameters())


def is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a module is nn.Linear and does nothing else."""
    return type(module) is nn.Linear and computes_as(module, nn.Linear) and not has_hooks(module)
