"""What decoding can complain of, read off its source: every place that makes a sentence, and what the sentence says."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

_START = "serai.model.decode"
_SPEAKERS = {"about": 2, "_complain": 1, "_fault": 1}
"""Methods that take a sentence, and at which place."""
_SPEAKING = {"Fault", "DefinitionError"}
"""What carries one as ``message``."""

_GIVES_TEXT = ("str", "str | None")
_GIVES_BOTH = ("tuple[Path, str]",)
"""What functions return that make sentences or parts of them for others."""

Function = ast.FunctionDef
Texts = list[str]
"""Regular expressions; what is filled in may be anything."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence as it is made somewhere."""

    file: str
    function: str
    line: int
    text: str
    """As a regular expression."""
    whole: bool
    """Else it is a part of others."""


def modules() -> dict[str, ast.Module]:
    """By file: the modules of the model that decoding imports, one through the other."""
    found: dict[str, ast.Module] = {}
    waiting, seen = [_START], {_START}
    while waiting:
        file = importlib.import_module(waiting.pop()).__file__
        assert file
        tree = found[file] = ast.parse(Path(file).read_text())
        for node in ast.walk(tree):
            names = (
                [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                if name and name.startswith("serai.model.") and name not in seen and _is_module(name):
                    seen.add(name)
                    waiting.append(name)
    return found


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def sentences() -> list[Sentence]:
    """Every sentence, wherever one is made.

    Raises:
        LookupError: a complaint is made in a way that cannot be read here.
    """
    return sorted(
        {s for file, tree in modules().items() for function in _functions(tree) for s in _in(file, function)},
        key=lambda s: (s.file, s.line, s.text),
    )


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _in(file: str, function: Function) -> Iterator[Sentence]:
    longer = {ast.unparse(node.target) for node in _own(function) if isinstance(node, ast.AugAssign)}
    for node in _own(function):
        for expression in _spoken(node):
            for line, text in _texts(expression, function):
                yield Sentence(file, function.name, line, text, whole=ast.unparse(expression) not in longer)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and _returns(function, *_GIVES_BOTH):
            for line, text in _texts(node.value.elts[-1], function):
                yield Sentence(file, function.name, line, text, whole=ast.unparse(node.value.elts[-1]) not in longer)
        if isinstance(node, ast.Return) and node.value and _returns(function, *_GIVES_TEXT):
            for line, text in _parts(node.value):
                yield Sentence(file, function.name, line, text, whole=False)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            for line, text in _parts(node.value):
                yield Sentence(file, function.name, line, text, whole=False)


def _own(function: Function) -> Iterator[ast.AST]:
    """What stands in a function and in no function inside of it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function):
            waiting += ast.iter_child_nodes(node)


def _spoken(node: ast.AST) -> Iterator[ast.expr]:
    """The sentence that a node speaks, if it does."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
        name = ast.unparse(node.exc.func)
        # These carry others' sentences, or one that ``wording`` says in its own way.
        if name not in {"DefinitionErrors", "PydanticCustomError"}:
            yield node.exc.args[-1]
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in _SPEAKERS:
            yield node.args[_SPEAKERS[name]]
        if name in _SPEAKING:
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "message")


def _texts(expression: ast.expr, function: Function) -> Iterator[tuple[int, str]]:
    """The line and text of each sentence that an expression can be."""
    match expression:
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield from ((expression.lineno, text) for text in _patterns(expression))
        case ast.IfExp():
            yield from itertools.chain(_texts(expression.body, function), _texts(expression.orelse, function))
        case ast.Name():
            yield from _named(expression, function)
        case ast.Call() | ast.Attribute() | ast.Subscript():
            # Another function's text, found where that returns it; or what somebody else has said before.
            return
        case _:
            message = f"{function.name}, line {expression.lineno}: what does {ast.unparse(expression)!r} say?"
            raise LookupError(message)


def _named(name: ast.Name, function: Function) -> Iterator[tuple[int, str]]:
    """What is put into a variable; a parameter is what a caller says, who is looked at himself."""
    if name.id in {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}:
        return
    assigned = [
        node.value
        for node in _own(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == name.id
    ]
    for value in assigned:
        yield from _texts(value, function)
    loops = {
        t.id
        for node in _own(function)
        if isinstance(node, ast.For)
        for t in ast.walk(node.target)
        if isinstance(t, ast.Name)
    }
    unpacked = {
        t.id
        for node in _own(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Tuple)
        for t in ast.walk(target)
        if isinstance(t, ast.Name)
    }
    if not assigned and name.id not in loops | unpacked:
        message = f"{function.name}, line {name.lineno}: where does {name.id!r} come from?"
        raise LookupError(message)


def _returns(function: Function, *types: str) -> bool:
    return function.returns is not None and ast.unparse(function.returns) in types


def _parts(expression: ast.expr) -> Iterator[tuple[int, str]]:
    """The texts inside an expression, each for itself."""
    match expression:
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield from ((expression.lineno, text) for text in _patterns(expression))
        case ast.IfExp():
            yield from itertools.chain(_parts(expression.body), _parts(expression.orelse))
        case ast.BinOp():
            yield from itertools.chain(_parts(expression.left), _parts(expression.right))
        case ast.BoolOp():
            yield from itertools.chain.from_iterable(map(_parts, expression.values))


def _patterns(text: ast.expr) -> Texts:
    """The regular expressions of a text: several where it holds one of two words."""
    if isinstance(text, ast.Constant):
        return [re.escape(str(text.value))]
    assert isinstance(text, ast.JoinedStr)
    pieces = [_piece(value) for value in text.values]
    return ["".join(chosen) for chosen in itertools.product(*pieces)]


def _piece(value: ast.expr) -> Texts:
    if isinstance(value, ast.Constant):
        return [re.escape(str(value.value))]
    assert isinstance(value, ast.FormattedValue)
    if isinstance(value.value, ast.IfExp) and all(
        isinstance(side, ast.Constant | ast.JoinedStr) for side in (value.value.body, value.value.orelse)
    ):
        return [*_patterns(value.value.body), *_patterns(value.value.orelse)]
    return [r"(?:'.*'|\".*\"|[0-9.-]+)" if value.conversion == ord("r") else ".*"]
