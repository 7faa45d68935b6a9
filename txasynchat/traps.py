"""What a source for the removed modules does that can't work any more, as far as it is sure."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from txasynchat.uses import MISSING, STAR, Module, Use

__all__ = ("traps_of",)

_CHAT = "asynchat.async_chat"
_DISPATCHERS = frozenset(
    {
        *("asyncore.dispatcher", "asyncore.dispatcher_with_send", "asyncore.file_dispatcher"),
        _CHAT,
    }
)
#: Other base classes that leave a channel's methods alone.
_HARMLESS = frozenset({"object", "threading.Thread"})

#: What returns text when it is called on text.
_OF_TEXT = frozenset(
    {
        *("capitalize", "center", "expandtabs", "format", "join", "ljust", "lower", "lstrip"),
        *("replace", "rjust", "rstrip", "strip", "title", "translate", "upper", "zfill"),
    }
)
_TO_TEXT = frozenset({"chr", "hex", "oct", "repr", "str"})

_REACTOR_CALLS = {
    "twisted.internet.reactor.callFromThread": 0,
    "twisted.internet.reactor.callLater": 1,
    "twisted.internet.reactor.callWhenRunning": 0,
    "twisted.internet.task.LoopingCall": 0,
}


def traps_of(module: Module) -> Iterator[Use]:
    r"""Each place in a source that wants a change, or ``ssl.wrap_socket()`` back.

    >>> source = "import asyncore\nclass A(asyncore.dispatcher):\n def a(self): self.send('')"
    >>> for use in traps_of(Module(source)):
    ...     print(use.line, use.rule, use.what)
    3 text-sent send() of text
    """
    for node in module.nodes:
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            yield from _rebound(module, node)
        elif isinstance(node, ast.Call):
            yield from _in_reactor(module, node)
        elif isinstance(node, ast.ClassDef):
            channel = _Channel(module, node)
            if channel.is_sure:
                yield from channel.traps()
        elif isinstance(node, ast.Expr):
            yield from _chevron(module, node)
        elif isinstance(node, ast.ExceptHandler):
            yield from _comma(module, node)
        elif isinstance(node, ast.ImportFrom):
            yield from _star(module, node)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            yield from _wrap_socket(module, node)


def _wrap_socket(module: Module, node: ast.Name | ast.Attribute) -> Iterator[Use]:
    if module.meaning(node) == "ssl.wrap_socket" and not module.is_guarded(node, *MISSING):
        yield Use(node.lineno, "ssl-wrap-socket", "ssl.wrap_socket")


def _rebound(module: Module, node: ast.Assign | ast.AugAssign) -> Iterator[Use]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Attribute) and module.meaning(target) == "asyncore.select":
            yield Use(node.lineno, "rebound", "asyncore.select is replaced")


def _in_reactor(module: Module, node: ast.Call) -> Iterator[Use]:
    at = _REACTOR_CALLS.get(module.meaning(node.func) or "")
    if at is None or len(node.args) <= at or any(isinstance(x, ast.Starred) for x in node.args):
        return
    counted = len(node.args) > at + 4 or any(x.arg in (None, "count") for x in node.keywords)
    if module.meaning(node.args[at]) == "asyncore.loop" and not counted:
        yield Use(node.lineno, "loop-in-reactor", "asyncore.loop() is called by the reactor")


def _star(module: Module, node: ast.ImportFrom) -> Iterator[Use]:
    base = node.module or ""
    if base not in STAR or node.level or node.names[0].name != "*" or base in module.copies:
        return
    import importlib

    missing = STAR[base] - set(importlib.import_module(f"txasynchat.{base}").__all__)
    told: set[str] = set()
    for each in module.nodes:
        if not isinstance(each, ast.Name) or each.id not in missing - told:
            continue
        if module.bound_at(each) == [f"{base}.{each.id}"]:
            told.add(each.id)
            yield Use(each.lineno, "star", f"{each.id} came by 'from {base} import *'")


# -- Python 2 that Python 3 can parse -----------------------------------------------


def _chevron(module: Module, node: ast.Expr) -> Iterator[Use]:
    value = node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value
    if (
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.RShift)
        and isinstance(value.left, ast.Name)
        and value.left.id == "print"
    ):
        yield Use(node.lineno, "python-2", "Python 2 syntax: print >>file")


def _comma(module: Module, node: ast.ExceptHandler) -> Iterator[Use]:
    # Python 3.14 takes "except error, why:" for two exceptions.
    kinds = node.type
    if not isinstance(kinds, ast.Tuple) or len(kinds.elts) != 2:
        return
    name = kinds.elts[1]
    if (
        (kinds.lineno, kinds.col_offset) == (kinds.elts[0].lineno, kinds.elts[0].col_offset)
        and isinstance(name, ast.Name)
        and not module.binds(name.id)
        and not hasattr(builtins, name.id)
    ):
        yield Use(node.lineno, "python-2", "Python 2 syntax: except ..., name")


# -- Text where bytes are needed ------------------------------------------------------


class _Channel:
    """A class of the source, with those of the same source that it derives from.

    :ivar is_sure: whether it is a channel, and nothing it derives from is unknown.
    """

    def __init__(self, module: Module, node: ast.ClassDef) -> None:
        self._module = module
        self._node = node
        self._classes: list[ast.ClassDef] = []
        bases = self._bases(node)
        self.is_sure = bool(bases & _DISPATCHERS) and bases <= _DISPATCHERS | _HARMLESS
        self._is_chat = _CHAT in bases
        if not self.is_sure:
            return
        # What a subclass overrides is called in its place.
        others = [each for each in module.nodes if isinstance(each, ast.ClassDef)]
        for other in others:
            if other is not node and node in self._ancestors(other):
                self._classes.append(other)
        self._defined = {name for each in self._classes for name in self._names_of(each)}
        self._defined |= {
            each.attr
            for each in module.nodes
            if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
            if each.attr in ("push", "send", "set_terminator")
        }

    def _bases(self, node: ast.ClassDef) -> set[str]:
        # Of it and of its ancestors, which are remembered.
        found: set[str] = set()
        waiting = [node]
        while waiting:
            each = waiting.pop()
            if each in self._classes:
                continue
            self._classes.append(each)
            if each.keywords or each.decorator_list:
                found.add("?")
            for base in each.bases:
                inner = self._module.class_of(base)
                if inner is not None:
                    waiting.append(inner)
                elif isinstance(base, ast.Name) and base.id == "object":
                    found.add("object")
                else:
                    found.add(self._module.meaning(base) or "?")
        return found

    def _ancestors(self, node: ast.ClassDef) -> list[ast.ClassDef]:
        found: list[ast.ClassDef] = []
        waiting = [node]
        while waiting:
            for base in waiting.pop().bases:
                inner = self._module.class_of(base)
                if inner is not None and inner not in found:
                    found.append(inner)
                    waiting.append(inner)
        return found

    def _names_of(self, node: ast.ClassDef) -> Iterator[str]:
        for each in ast.walk(node):
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield each.name
            elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                yield each.id
            elif isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
                yield each.attr

    def traps(self) -> Iterator[Use]:
        """What is wrong in the methods of the class itself."""
        for method in self._node.body:
            if isinstance(method, ast.FunctionDef) and method.args.args:
                if not method.decorator_list:  # a static method has no self
                    yield from self._traps_in(method, method.args.args[0].arg)
            elif isinstance(method, ast.Assign) and self._judges_terminators():
                names = [each.id for each in method.targets if isinstance(each, ast.Name)]
                if "terminator" in names and self._is_text(method.value):
                    yield Use(method.lineno, "text-terminator", "terminator is text")

    def _traps_in(self, method: ast.FunctionDef, self_name: str) -> Iterator[Use]:
        for node in _within(method, self_name):
            if isinstance(node, ast.Call):
                yield from self._call(node, self_name)
            elif isinstance(node, ast.Assign) and self._judges_terminators():
                for target in node.targets:
                    if _attribute(target, self_name) == "terminator" and self._is_text(node.value):
                        yield Use(node.lineno, "text-terminator", "self.terminator is text")
        if method.name == "collect_incoming_data" and len(method.args.args) == 2:
            yield from self._collected(method, self_name, method.args.args[1].arg)

    def _call(self, node: ast.Call, self_name: str) -> Iterator[Use]:
        name, arguments, overridden = self._called(node, self_name)
        if not arguments or self._is_guarded(node):
            return
        first = arguments[0]
        if name == "set_terminator" and self._is_chat and not overridden:
            if _is_negative(first):
                yield Use(node.lineno, "negative-terminator", "set_terminator() below 0")
            elif self._judges_terminators() and self._is_text(first):
                yield Use(node.lineno, "text-terminator", "set_terminator() of text")
        elif self._takes_bytes(name) and not overridden and self._is_text(first):
            yield Use(node.lineno, "text-sent", f"{name}() of text")

    def _takes_bytes(self, name: str) -> bool:
        if name == "push":
            return self._is_chat
        own = {"set_socket", "create_socket", "set_file", "socket"}
        return name == "send" and not own & self._defined

    def _called(self, node: ast.Call, self_name: str) -> tuple[str, list[ast.expr], bool]:
        # The method's name and arguments, and whether it is one that the source overrides.
        function = node.func
        if not isinstance(function, ast.Attribute):
            return "", [], False
        name = function.attr
        if _is_name([function.value], self_name):
            return name, node.args, name in self._defined
        if self._module.meaning(function.value) in _DISPATCHERS:
            return name, node.args[1:], False
        if isinstance(function.value, ast.Call) and _is_name([function.value.func], "super"):
            others = (each for each in self._classes if each is not self._node)
            return name, node.args, any(name in self._names_of(each) for each in others)
        return "", [], False

    def _judges_terminators(self) -> bool:
        # By async_chat itself, and without an encoding.
        own = {"handle_read", "handle_read_event", "get_terminator"}
        return (
            self._is_chat and not own & self._defined and "use_encoding" not in self._module.source
        )

    def _is_guarded(self, node: ast.AST) -> bool:
        # One of several ways, for Python 2 and 3.
        return self._module.is_guarded(node, "TypeError", "UnicodeError")

    # -- What arrives is bytes

    def _collected(self, method: ast.FunctionDef, self_name: str, data: str) -> Iterator[Use]:
        own = {"handle_read", "handle_read_event"}
        changed = any(
            isinstance(node, ast.Name) and node.id == data and not isinstance(node.ctx, ast.Load)
            for node in ast.walk(method)
        )
        if changed or not self._is_chat or own & self._defined:
            return
        for node in ast.walk(method):
            if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
                name, added = _attribute(node.target, self_name), node.value
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
                name, added = _attribute(node.value.left, self_name), node.value.right
                if not isinstance(node.value.op, ast.Add):
                    continue
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "append" and _is_name(node.args[:1], data):
                    yield from self._joined(_attribute(node.func.value, self_name), self_name, data)
                continue
            else:
                continue
            if name and _is_name([added], data) and self._is_always_text(name):
                yield Use(node.lineno, "text-collected", f"self.{name} is text, {data} is bytes")

    def _joined(self, name: str | None, self_name: str, data: str) -> Iterator[Use]:
        if name is None or self._appends(name) != 1:
            return
        for node in ast.walk(self._node):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "join"
                and self._is_text(node.func.value)
                and len(node.args) == 1
                and _attribute(node.args[0], self_name) == name
                and not self._is_guarded(node)
            ):
                yield Use(node.lineno, "text-collected", f"text joins self.{name}, which has bytes")

    def _appends(self, name: str) -> int:
        # How often the source puts something into a list of that name, of whatever object.
        count = 0
        for node in self._module.nodes:
            if isinstance(node, ast.Attribute) and node.attr == name:
                parent = self._module.parents[node]
                if isinstance(parent, ast.Attribute):
                    count += parent.attr in ("append", "extend", "insert")
                elif isinstance(node.ctx, ast.Store) and not _is_empty_list(parent):
                    count += 2
        return count

    def _is_always_text(self, name: str) -> bool:
        # Every place in the source that sets such an attribute, of whatever object.
        found = False
        for node in self._module.nodes:
            if not self._sets(node, name):
                continue
            value = self._assigned(node)
            if isinstance(self._module.parents[node], ast.AugAssign) or _adds_to(value, name):
                continue
            if value is None or not self._is_text(value):
                return False
            found = True
        return found

    def _assigned(self, node: ast.AST) -> ast.expr | None:
        # To one target of an assignment, which may be one of a tuple.
        parent = self._module.parents[node]
        if isinstance(parent, ast.Assign):
            return parent.value
        whole = self._module.parents[parent]
        if isinstance(parent, ast.Tuple) and isinstance(whole, ast.Assign):
            value = whole.value
            if isinstance(value, ast.Tuple) and len(value.elts) == len(parent.elts):
                return value.elts[[x is node for x in parent.elts].index(True)]
        return None

    def _sets(self, node: ast.AST, name: str) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr == name and isinstance(node.ctx, ast.Store)
        return isinstance(node, ast.Name) and node.id == name and self._is_in_class(node)

    def _is_in_class(self, node: ast.Name) -> bool:
        return isinstance(node.ctx, ast.Store) and isinstance(
            self._module.scope_of(node), ast.ClassDef
        )

    # -- What is text

    def _is_text(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Constant):
            return isinstance(node.value, str)
        if isinstance(node, ast.JoinedStr):
            return True
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.Add):
                return self._is_text(node.left) or self._is_text(node.right)
            return isinstance(node.op, ast.Mod) and self._is_text(node.left)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                return function.attr in _OF_TEXT and self._is_text(function.value)
            return (
                isinstance(function, ast.Name)
                and function.id in _TO_TEXT
                and not self._module.binds(function.id)
            )
        if isinstance(node, ast.Name):
            return self._is_constant_text(node)
        return False

    def _is_constant_text(self, node: ast.Name) -> bool:
        bound = self._module.bound_at(node)
        if len(bound) != 1 or not isinstance(bound[0], (ast.Constant, ast.JoinedStr)):
            return False
        in_module = isinstance(self._module.scope_of(bound[0]), ast.Module)
        return in_module and self._is_text(bound[0]) and not self._is_guarded(bound[0])


def _within(method: ast.FunctionDef, self_name: str) -> Iterator[ast.AST]:
    # What is in a method, where that name means the same.
    waiting: list[ast.AST] = list(method.body)
    while waiting:
        node = waiting.pop()
        arguments = getattr(node, "args", None)
        if isinstance(node, ast.ClassDef) or (
            isinstance(arguments, ast.arguments)
            and any(isinstance(x, ast.arg) and x.arg == self_name for x in ast.walk(arguments))
        ):
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _attribute(node: ast.AST, self_name: str) -> str | None:
    # The name in "self.name".
    if isinstance(node, ast.Attribute) and _is_name([node.value], self_name):
        return node.attr
    return None


def _is_name(nodes: list[ast.expr], name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in nodes)


def _is_negative(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
        and isinstance(node.operand.value, int)
        and node.operand.value > 0
    )


def _is_empty_list(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and not node.value.elts


def _adds_to(value: ast.expr | None, name: str) -> bool:
    return (
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.Add)
        and isinstance(value.left, ast.Attribute)
        and value.left.attr == name
    )
