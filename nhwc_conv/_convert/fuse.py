"""What follows a convolution, done by it: an activation, and adding another tensor to its result."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from torch import fx, nn

from .._ops.finish import ActivationArgument
from ..nn.fused import (
    FusedConv1d,
    FusedConv2d,
    FusedConvTranspose1d,
    FusedConvTranspose2d,
    FusedLayer,
    FusedTransposed,
)
from ..nn.linear import FusedLinear
from ..nn.twin import shallow_copy
from .activations import FoundActivation, activation_of
from .graph import (
    ADDITIONS,
    FINISHING,
    IN_PLACE,
    SUMS,
    called,
    does,
    is_plain_transposed,
    is_seen_elsewhere,
    name_in_model,
    operands,
    permutation,
    producers,
    put,
    replace,
    source,
    why_not_plain,
    why_not_theirs,
)
from .report import ConvertReport
from .tracing import has_hooks

FUSED: dict[type, Any] = {
    nn.Conv1d: FusedConv1d,
    nn.Conv2d: FusedConv2d,
    nn.ConvTranspose1d: FusedConvTranspose1d,
    nn.ConvTranspose2d: FusedConvTranspose2d,
}


def fuse_finishes(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets every convolution do the activation and the addition to which its result alone goes, in either order."""
    for node in list(traced.graph.nodes):
        name, activation, terms = (
            name_in_model(node, prefix),
            activation_of(traced, node),
            operands(node, ADDITIONS),
        )
        if activation is not None:
            fused: list[fx.Node] | str | None = fuse_activation(traced, node, activation)
        elif terms is not None:
            fused = fuse_sum(traced, node, [Term.of(node, operand) for operand in terms])
        else:
            continue
        if isinstance(fused, str):
            found.unfused[name] = fused
        elif fused is not None:
            found.fused[name] = ", ".join(prefix + str(one.target) for one in fused)


def fuse_activation(
    traced: fx.GraphModule, node: fx.Node, activation: FoundActivation
) -> list[fx.Node] | str:
    """The convolutions that now do what a node did, or why none does: several if their results are concatenated."""
    user, *before = producers(node)
    why = activation.why_alone or why_not_theirs(node, user, before, partial(why_not_activated, traced, user))
    if why is not None:
        return why
    for one in before:
        fuse(traced, one, activation.argument)
    replace(traced, node, source(node))
    return before


def fuse_sum(traced: fx.GraphModule, node: fx.Node, terms: list[Term]) -> list[fx.Node] | str | None:
    """The same; None where no term is a convolution's."""
    whys = [why_not_added(traced, node, term) for term in terms]
    for term, why in zip(terms, whys, strict=True):
        if why is None:
            fuse(traced, term.layer, activation_done(traced, term.layer), term.residual(traced))
            replace(traced, node, term.operand)
            return [term.layer]
    return next(
        (why for term, why in zip(terms, whys, strict=True) if is_convolution(traced, term.layer)), None
    )


def is_convolution(traced: fx.GraphModule, node: object) -> bool:
    return isinstance(called(traced, node), (*FINISHING, FusedLinear))


def activation_done(traced: fx.GraphModule, node: fx.Node) -> ActivationArgument:
    """By the convolution that a node calls."""
    layer = called(traced, node)
    return layer.activation if isinstance(layer, FusedLayer) else None


def fuse(
    traced: fx.GraphModule, node: fx.Node, activation: ActivationArgument, residual: fx.Node | None = None
) -> None:
    """Lets the convolution that a node calls do more: an activation, or adding a residual behind that which it has."""
    layer = called(traced, node)
    if isinstance(layer, FusedLayer):
        fused = shallow_copy(layer, type(layer))
    else:
        fused = next(cls for theirs, cls in FUSED.items() if isinstance(layer, theirs)).from_torch(layer)
    fused.set_finish(activation, activation is not None and residual is not None)
    put(traced, node, fused)
    if residual is not None:
        node.args, node.kwargs = (source(node), residual), {}


def why_not_activated(traced: fx.GraphModule, node: fx.Node, before: Any) -> str | None:
    """Why the activation that a node computes is not done by what is computed before it."""
    why = why_left_apart(traced, node, before)
    if why is None and activation_done(traced, before) is not None:
        return f"the convolution {before.target!r} has an activation already"
    return why


class Term(NamedTuple):
    """One of the two tensors of a sum, as the result of a layer, maybe with its dimensions in another order."""

    operand: Any
    layer: Any
    user: Any  # of the layer's result: the sum, or what permutes it
    other: Any  # tensor of the sum
    order: tuple[Any, ...]

    @staticmethod
    def of(node: fx.Node, operand: Any) -> Term:
        a, b = node.args
        other = b if a is operand else a
        order = permutation(operand)
        if order and list(operand.users) == [node]:
            return Term(operand, source(operand), operand, other, order)
        return Term(operand, operand, node, other, ())

    def residual(self, traced: fx.GraphModule) -> fx.Node:
        """The other tensor in the order of the layer's result."""
        if not self.order:
            return self.other
        inverse = [self.order.index(n) for n in range(len(self.order))]
        with traced.graph.inserting_before(self.layer):
            return traced.graph.call_method("permute", (self.other, *inverse))


def why_not_added(traced: fx.GraphModule, node: fx.Node, term: Term) -> str | None:
    """Why the sum that a node computes is not made by the convolution whose result is one of its terms."""
    layer, other = term.layer, term.other
    if is_plain_transposed(traced, layer) or isinstance(called(traced, layer), FusedTransposed):
        return f"the convolution {layer.target!r} is transposed"
    why = why_left_apart(traced, term.user, layer)
    if why is not None:
        return why
    if not isinstance(other, fx.Node) or other is term.operand:
        return "what is added is no other tensor"
    if len(layer.args) + len(layer.kwargs) > 1:
        return f"the convolution {layer.target!r} adds another tensor already"
    if node.target in IN_PLACE and node.args[0] is not term.operand:
        return "it writes to another tensor than the convolution's result"
    if not other < layer:  # in the order of execution
        return "what is added is computed later"
    if any(layer < user < node and may_write(traced, user) for user in other.users):
        return "what is added may be written to before it is added"
    return None


def why_left_apart(traced: fx.GraphModule, node: fx.Node, before: Any) -> str | None:
    """Why what a node does is not done by what is computed before it."""
    if not isinstance(called(traced, before), FusedLayer) and not is_plain_transposed(traced, before):
        why = why_not_plain(traced, before)
        if why is not None:
            return why
    module = called(traced, node)
    if module is not None and has_hooks(module):
        return "it has hooks"
    if is_seen_elsewhere(before, node):
        return f"the result of the convolution {before.target!r} goes elsewhere too"
    return None


def may_write(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node may change its inputs: unless it is a convolution, a sum or a view, it is believed to."""
    return not (is_convolution(traced, node) or does(node) in (*SUMS, "permute"))
