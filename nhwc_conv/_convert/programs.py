"""Runs of convolutions in a graph, which one call can do."""

from __future__ import annotations

import operator
from collections.abc import Callable

from torch import fx

from ..nn import program
from ..nn.program import LAYERS, Program
from .graph import called, remove_unread, replace, unused


def join_convolutions(traced: fx.GraphModule) -> None:
    """Lets one call do what calls of convolutions do that directly follow each other, at least two.

    The layers stay where they are, and are arguments of it.
    """
    run: list[fx.Node] = []
    for node in list(traced.graph.nodes):
        if node.op == "get_attr":
            continue
        if is_plain_call(traced, node):
            run.append(node)
            continue
        join(traced, run)
        run = []
    join(traced, run)
    paths = [
        str(node.target)
        for node in traced.graph.find_nodes(op="get_attr")
        if any(isinstance(called(traced, user), Program) for user in node.users)
    ]
    if paths:
        traced.graph.on_generate_code(lambda _: by_path(paths))


def by_path(paths: list[str]) -> Callable[[list[str]], list[str]]:
    """Changes the code of a graph: modules at `paths` are found by modules_at, which takes a tenth of the time."""
    places: dict[str, int] = {"": 0}
    steps: list[tuple[int, str]] = []
    lines = {}
    for path in paths:
        at, found = "", "self"
        for name in path.split("."):
            before, at = places[at], f"{at}.{name}" if at else name
            if at not in places:
                steps.append((before, name))
                places[at] = len(steps)
            found = f"{found}.{name}" if name.isidentifier() else f'getattr({found}, "{name}")'
        lines[found] = f"modules[{places[path]}]"

    def changed(body: list[str]) -> list[str]:
        name = program.modules_at.__name__
        code = [f"from {program.__name__} import {name}\n", f"modules = {name}(self, {tuple(steps)})\n"]
        for line in body:
            target, equals, value = line.partition(" = ")
            code.append(target + equals + lines.get(value, value))
        return code

    return changed


def is_plain_call(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Of a layer of ours, with tensors alone."""
    layer = called(traced, node)
    return (
        type(layer) in LAYERS
        and len(node.args) > 0
        and not node.kwargs
        and all(isinstance(argument, fx.Node) for argument in node.args)
    )


def join(traced: fx.GraphModule, run: list[fx.Node]) -> None:
    if len(run) < 2:
        return
    inputs = list(dict.fromkeys(a for node in run for a in node.all_input_nodes if a not in run))
    place = {node: i for i, node in enumerate([*inputs, *run])}
    steps = []
    for node in run:
        steps.append(tuple(place[argument] for argument in node.args if isinstance(argument, fx.Node)))
    outputs = [node for node in run if any(user not in run for user in node.users)]
    name = unused(traced, "program")
    traced.add_submodule(name, Program(len(inputs), steps, [run.index(node) for node in outputs]))
    with traced.graph.inserting_before(run[-1].next):
        layers = [traced.graph.get_attr(str(node.target)) for node in run]
        results = traced.graph.call_module(name, (*inputs, *layers))
        for i, node in enumerate(outputs):
            node.replace_all_uses_with(
                traced.graph.call_function(operator.getitem, (results, i)), lambda user: user not in run
            )
    for node in reversed(run):
        traced.graph.erase_node(node)


def separate_convolutions(traced: fx.GraphModule) -> None:
    """Undoes `join_convolutions`."""
    for node in traced.graph.find_nodes(op="call_module"):
        program = called(traced, node)
        if not isinstance(program, Program):
            continue
        tensors, layers = list(node.args[: program.inputs]), node.args[program.inputs :]
        with traced.graph.inserting_before(node):
            for layer, places in zip(layers, program.steps, strict=True):
                given = tuple(tensors[place] for place in places)
                tensors.append(traced.graph.call_module(str(layer.target), given))
        for user in list(node.users):
            replace(traced, user, tensors[program.inputs + program.outputs[user.args[1]]])
        traced.graph.erase_node(node)
    remove_unread(traced)
    traced.graph.on_generate_code(lambda _: None)  # type: ignore[arg-type, return-value]  # which that takes
    traced.delete_all_unused_submodules()
    traced.recompile()
