"""Where a source uses asyncore, asynchat and smtpd. It is read, never imported or run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

__all__ = ("Finding", "Module", "Rule", "Use", "string_rule", "use_of", "uses_of")

#: The modules that Python 3.12 removed.
MODULES = ("asyncore", "asynchat", "smtpd")

#: Those that txasynchat has.
OURS = ("asyncore", "asynchat")

#: Libraries that import the removed modules themselves, in every release.
LIBRARIES = frozenset({"PodSixNet", "bacpypes", "medusa", "secure_smtpd"})

#: Names that the modules of some Python had, ours do not, and what to use.
GONE: Mapping[str, str] = {
    "asyncore.EINTR": "import it from errno",
    "asyncore.fcntl": "import fcntl",
    "asyncore.warn": "import it from warnings",
    "asynchat.socket": "import socket",
    "asynchat.warn": "import it from warnings",
    "asyncore.dispatcher.__getattr__": "methods of the socket are there without it",
}

#: What ``from asyncore import *`` gave, on one Python or another.
STAR: Mapping[str, frozenset[str]] = {
    "asyncore": frozenset(
        {
            *("EAGAIN", "EALREADY", "EBADF", "ECONNABORTED", "ECONNRESET", "EINPROGRESS"),
            *("EINTR", "EINVAL", "EISCONN", "ENOTCONN", "EPIPE", "ESHUTDOWN", "EWOULDBLOCK"),
            *("ExitNow", "close_all", "compact_traceback", "dispatcher", "dispatcher_with_send"),
            *("errorcode", "fcntl", "file_dispatcher", "file_wrapper", "loop", "os", "poll"),
            *("poll2", "poll3", "read", "readwrite", "select", "socket", "socket_map", "sys"),
            *("time", "warn", "warnings", "write"),
        }
    ),
    "asynchat": frozenset(
        {
            *("async_chat", "asyncore", "deque", "fifo", "find_prefix_at_end"),
            *("simple_producer", "socket", "warn"),
        }
    ),
}

_MIGRATING = "docs/migrating.md"
_CHECKING = "docs/checking.md"
_START = "start the program by run, or call install() first"


class Rule(NamedTuple):
    """What a kind of finding means.

    :ivar kind: ``works``, ``install``, ``change``, ``error`` or ``note``.
    :ivar advice: what to do, in words; may be empty.
    :ivar page: the page of the documentation that says more; may be empty.

    >>> RULES["rebound"].kind
    'change'
    """

    kind: str
    advice: str = ""
    page: str = ""


_BY_NAME = f"{_MIGRATING}#step-2-install-at-the-top"
_TEXT = f"{_CHECKING}#text-and-bytes"
_NAMES = f"{_CHECKING}#names"

#: All kinds of findings, by the name that ``--json`` gives them.
RULES: Mapping[str, Rule] = {
    "import": Rule("works"),
    "use": Rule("works"),
    "subclass": Rule("works"),
    "migrated": Rule("works"),
    "installed": Rule("works"),
    "smtpd": Rule(
        "install",
        f"pip install standard-smtpd, and {_START}",
        f"{_MIGRATING}#programs-that-need-smtpd",
    ),
    "by-name": Rule("install", _START, _BY_NAME),
    "library": Rule("install", f"it imports the removed modules itself: {_START}", _BY_NAME),
    "ssl-wrap-socket": Rule(
        "install",
        "Python 3.12 removed it: run --ssl-wrap-socket, or install(ssl_wrap_socket=True)",
        f"{_MIGRATING}#step-1-run-it-as-it-is",
    ),
    "python-2": Rule(
        "change",
        "convert it first, with 2to3 or by hand, then check again",
        f"{_CHECKING}#python-2",
    ),
    "text-sent": Rule("change", 'TypeError on Python 3: send bytes, b"..." or .encode()', _TEXT),
    "text-terminator": Rule(
        "change", 'TypeError on Python 3 when data comes: use b"...", or set use_encoding', _TEXT
    ),
    "text-collected": Rule("change", "TypeError on Python 3: what arrives is bytes", _TEXT),
    "negative-terminator": Rule("change", "ValueError: None is for no terminator", _NAMES),
    "gone": Rule("change", "", _NAMES),
    "star": Rule("change", "NameError: import it from where it is", _NAMES),
    "rebound": Rule("change", "nothing waits by it: assign asyncore.poll one that does", _NAMES),
    "loop-in-reactor": Rule(
        "change",
        "RuntimeError: leave it out, the running reactor serves the channels",
        f"{_MIGRATING}#inside-a-twisted-application",
    ),
    "unreadable": Rule("error", "", f"{_CHECKING}#what-is-read"),
    "copy": Rule("note", "", f"{_CHECKING}#copies"),
    "mention": Rule(
        "note", "if that is looked up as a module, it works by run and install()", _BY_NAME
    ),
}


@dataclass(frozen=True, order=True)
class Finding:
    """One line of the report.

    :ivar path: the file, as the command line names it or the folder it is in.
    :ivar line: from 1.
    :ivar rule: a key of :data:`RULES`.
    :ivar what: what is there, in words.
    :ivar advice: what to do about it; may be empty.

    >>> print(Finding("bot.py", 7, "use", "asyncore.loop"))
    bot.py:7: works: asyncore.loop
    >>> print(Finding("bot.py", 8, "gone", "asyncore.fcntl", "import fcntl"))
    bot.py:8: change: asyncore.fcntl; import fcntl (docs/checking.md#names)
    """

    path: str
    line: int
    rule: str
    what: str
    advice: str = ""

    @property
    def kind(self) -> str:
        """``works``, ``install``, ``change``, ``error`` or ``note``."""
        return RULES[self.rule].kind

    @property
    def page(self) -> str:
        """The page of the documentation that says more; may be empty."""
        return RULES[self.rule].page

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        page = f" ({self.page})" if self.page else ""
        return f"{self.path}:{self.line}: {self.kind}: {self.what}{advice}{page}"


class Use(NamedTuple):
    """A finding before it is known in which file.

    >>> Use(7, "use", "asyncore.loop").rule
    'use'
    """

    line: int
    rule: str
    what: str
    advice: str = ""


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, *_COMPREHENSIONS)

#: What a name may be bound to: a dotted name, an expression, a class, or anything else.
_Bound: TypeAlias = "str | ast.expr | ast.ClassDef | None"


class Module:
    r"""A source, and what its names mean.

    :param source: the text.
    :param copies: those of the removed modules that ``import`` would find a copy of here.
    :raise SyntaxError: if it is not Python of this version. ValueError, RecursionError and
        MemoryError are what the parser raises besides.
    :ivar nodes: all of the tree, an outer one before what is in it.
    :ivar parents: for each node the one that it is in.

    >>> module = Module("import asyncore as a\na.loop()")
    >>> module.meaning(module.tree.body[1].value.func)
    'asyncore.loop'
    """

    def __init__(self, source: str, copies: frozenset[str] = frozenset()) -> None:
        self.source = source
        self.copies = copies
        self.tree: ast.Module = ast.parse(source)
        self.nodes: list[ast.AST] = []
        self.parents: dict[ast.AST, ast.AST] = {}
        self._scopes: dict[ast.AST, ast.AST] = {}
        self._bound: dict[ast.AST, dict[str, list[_Bound]]] = {}
        self._elsewhere: dict[ast.AST, set[str]] = {}
        self._attributes: dict[str, str] = {}
        self._meanings: dict[ast.Name, str | None] = {}
        self._walk()
        for node in self.nodes:
            if isinstance(node, (ast.Global, ast.Nonlocal)):
                self._elsewhere.setdefault(self._scopes[node], set()).update(node.names)
        for node in self.nodes:
            self._bind(node)
        for node in self.nodes:
            if isinstance(node, ast.Assign):
                self._bind_attributes(node)
        self._meanings.clear()  # attributes were not known yet

    def _walk(self) -> None:
        # Not by recursion: some expressions are deeper than Python may go.
        self._bound[self.tree] = {}
        waiting: list[tuple[ast.AST, ast.AST]] = [(self.tree, self.tree)]
        while waiting:
            node, scope = waiting.pop()
            self.nodes.append(node)
            self._scopes[node] = scope
            if isinstance(node, _SCOPES):
                self._bound[node] = {}
            for name, value in reversed(list(ast.iter_fields(node))):
                # Decorators, defaults, annotations and base classes are evaluated outside.
                inside = isinstance(node, _COMPREHENSIONS) or name == "body"
                inner = node if isinstance(node, _SCOPES) and inside else scope
                for child in reversed(value if isinstance(value, list) else [value]):
                    if isinstance(child, ast.AST):
                        self.parents[child] = node
                        waiting.append((child, inner))

    # -- What names are bound to

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                meaning = self._imported(alias.name if alias.asname else first)
                self._add(node, alias.asname or first, meaning)
        elif isinstance(node, ast.ImportFrom):
            for name, meaning in self._names_from(node):
                self._add(node, name, meaning)
        elif isinstance(node, ast.ClassDef):
            self._add(node, node.name, node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._add(node, node.name, None)
        elif isinstance(node, ast.arguments):
            for each in _parameters(node):
                self._bound[self.parents[node]].setdefault(each.arg, []).append(None)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            self._add(node, node.name, None)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            parent = self.parents[node]
            self._add(node, node.id, parent.value if isinstance(parent, ast.Assign) else None)

    def _add(self, node: ast.AST, name: str, bound: _Bound) -> None:
        scope = self._scopes[node]
        if name in self._elsewhere.get(scope, ()):
            scope = self.tree  # of nonlocal ones there are few, and none of them is a module
        self._bound[scope].setdefault(name, []).append(bound)

    def _names_from(self, node: ast.ImportFrom) -> Iterator[tuple[str, str]]:
        base = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name != "*":
                dot = "" if base.endswith(".") else "."
                yield alias.asname or alias.name, self._imported(f"{base}{dot}{alias.name}")
            else:
                for name in sorted(STAR.get(self._imported(base), ())):
                    yield name, self._imported(f"{base}.{name}")

    def _imported(self, name: str) -> str:
        if name.split(".")[0] in self.copies:
            return f".{name}"
        for ours in OURS:
            if f"{name}.".startswith(f"txasynchat.{ours}."):
                return name[len("txasynchat.") :]
        return name

    def _bind_attributes(self, node: ast.Assign) -> None:
        meaning = self.meaning(node.value)
        if meaning not in MODULES:
            return
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                self._attributes[target.attr] = str(meaning)
            elif isinstance(target, ast.Name) and isinstance(self._scopes[node], ast.ClassDef):
                self._attributes[target.id] = str(meaning)

    # -- What an expression means

    def bindings(self, name: str, scope: ast.AST, *, innermost: bool = True) -> list[_Bound]:
        """What a name may be bound to in a scope; nothing for builtins and the unknown."""
        while True:
            bound = self._bound[scope].get(name)
            if bound and (innermost or not isinstance(scope, ast.ClassDef)):
                return bound
            if scope is self.tree:
                return []
            scope, innermost = self._scopes[scope], False

    def bound_at(self, node: ast.Name) -> list[_Bound]:
        """What a name may be bound to where it is used."""
        scope = self._scopes[node]
        value = self.parents.get(node)
        own = (
            isinstance(scope, ast.ClassDef)
            and isinstance(value, ast.Assign)
            and node is value.value
            and any(isinstance(each, ast.Name) and each.id == node.id for each in value.targets)
        )
        # "asyncore = asyncore" in a class takes what is outside of it.
        return self.bindings(node.id, self._scopes[scope] if own else scope, innermost=not own)

    def binds(self, name: str) -> bool:
        """Whether any scope binds a name, other than by ``from asyncore import *``."""
        return any(name in bound for bound in self._bound.values())

    def meaning(self, node: ast.AST | None) -> str | None:
        """The dotted name of what an expression is, by the imports; None for anything else.

        ``txasynchat.asyncore`` is called ``asyncore`` here; a copy of it ``.asyncore``.
        """
        if isinstance(node, ast.Attribute):
            base = self.meaning(node.value)
            if base is not None:
                return self._imported(f"{base}.{node.attr}")
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            return self._attributes.get(node.attr) if of_itself else None
        if not isinstance(node, ast.Name):
            return None
        if node not in self._meanings:
            self._meanings[node] = None  # for who asks while it is looked up: "a = b; b = a"
            self._meanings[node] = self._looked_up(node)
        return self._meanings[node]

    def _looked_up(self, node: ast.Name) -> str | None:
        for bound in self.bound_at(node):
            if isinstance(bound, str):
                return bound
            if isinstance(bound, (ast.Name, ast.Attribute)):
                found = self.meaning(bound)
                if found is not None:
                    return found
        return None

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """The class of this source that a name means, if it means nothing else."""
        bound = self.bound_at(node) if isinstance(node, ast.Name) else []
        return bound[0] if len(bound) == 1 and isinstance(bound[0], ast.ClassDef) else None

    def scope_of(self, node: ast.AST) -> ast.AST:
        """The function, class, comprehension or module whose names a node sees first."""
        return self._scopes[node]

    def above(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """What a node is in, from the inside to the outside: each with what it comes from."""
        while node in self.parents:
            yield self.parents[node], node
            node = self.parents[node]

    def is_guarded(self, node: ast.AST, *errors: str) -> bool:
        """Whether a node is meant for some Pythons only, or is expected to fail.

        :param errors: names of exceptions; a ``try`` around it that catches one of them counts.
        """
        for outer, inner in self.above(node):
            tested: list[ast.AST] = []
            if isinstance(outer, (ast.If, ast.IfExp)) and inner is not outer.test:
                tested = [outer.test]
            elif isinstance(outer, ast.Try) and inner in outer.body and _catches(outer, errors):
                return True
            words = (*_ABOUT_VERSIONS, *(["'hasattr'"] if "AttributeError" in errors else []))
            if any(word in ast.dump(each) for each in tested for word in words):
                return True
        return False

    def uses_the_modules(self) -> bool:
        """Whether it imports one of the modules, txasynchat's included."""
        return any(
            isinstance(each, str) and use_of(each)
            for bound in self._bound.values()
            for all_of_them in bound.values()
            for each in all_of_them
        )


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    more = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *more]


#: What is raised where something is missing.
MISSING = ("AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "Exception")

#: What is in a test of the Python version.
_ABOUT_VERSIONS = ("version", "'PY2'", "'PY3'")


def _catches(node: ast.Try, errors: tuple[str, ...]) -> bool:
    return any(
        "Exception" in errors
        if each.type is None
        else any(f"'{name}'" in ast.dump(each.type) for name in errors)
        for each in node.handlers
    )


def use_of(meaning: str | None) -> bool:
    """Whether a dotted name is one of the removed modules, or of what is in them.

    >>> use_of("asyncore.loop"), use_of("six.moves.asyncore")
    (True, False)
    """
    return meaning is not None and meaning.split(".")[0] in MODULES


# -- Uses -------------------------------------------------------------------------


def uses_of(module: Module) -> Iterator[Use]:
    r"""Each use of the removed modules in a source.

    >>> list(uses_of(Module("import asyncore")))
    [Use(line=1, rule='import', what='import asyncore', advice='')]
    """
    for node in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _import(module, node, alias)
        elif isinstance(node, ast.ImportFrom):
            yield from _import_from(module, node)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            yield from _name(module, node)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            scope = module.scope_of(node)
            for name in node.names:
                if any(isinstance(x, str) and use_of(x) for x in module.bindings(name, scope)):
                    yield Use(node.lineno, "use", name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _string(module, node, node.value)


def _import(module: Module, node: ast.Import, alias: ast.alias) -> Iterator[Use]:
    line = getattr(alias, "lineno", node.lineno)
    first, last = alias.name.split(".")[0], alias.name.split(".")[-1]
    words = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
    if first in LIBRARIES:
        yield Use(line, "library", f"import {first}")
    elif first in MODULES and first not in module.copies:
        yield Use(line, "smtpd" if first == "smtpd" else "import", words)
    elif alias.name in (f"txasynchat.{ours}" for ours in OURS):
        yield Use(line, "migrated", words)
    elif last in MODULES or alias.asname in MODULES:
        yield Use(line, "copy", words, _copy_advice(first in module.copies))


def _import_from(module: Module, node: ast.ImportFrom) -> Iterator[Use]:
    base = "." * node.level + (node.module or "")
    first, last = base.split(".")[0], base.split(".")[-1]
    for alias in node.names:
        line = getattr(alias, "lineno", node.lineno)
        words = f"from {base} import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
        ours = base in (f"txasynchat.{each}" for each in OURS) or (
            base == "txasynchat" and alias.name in OURS
        )
        name = f"{base}.{alias.name}"
        if ours:
            yield Use(line, "migrated", words)
        elif first in LIBRARIES:
            yield Use(line, "library", f"import {first}")
        elif first in MODULES and first not in module.copies:
            if name in GONE and not module.is_guarded(node, *MISSING):
                yield Use(line, "gone", words, GONE[name])
            else:
                yield Use(line, "smtpd" if first == "smtpd" else "import", words)
        elif last in MODULES or alias.name in MODULES or alias.asname in MODULES:
            yield Use(line, "copy", words, _copy_advice(first in module.copies))


def _copy_advice(beside: bool) -> str:
    if beside:
        return "it lies here and is meant, but under run and install() it would be txasynchat's"
    return "a module of its own, not looked into"


def _name(module: Module, node: ast.Name | ast.Attribute) -> Iterator[Use]:
    parent = module.parents[node]
    if isinstance(parent, ast.Attribute):
        return  # the whole of the dotted name is one use
    meaning = module.meaning(node)
    if meaning == "txasynchat.install":
        yield Use(node.lineno, "installed", meaning)
    if meaning is None or not use_of(meaning):
        return
    gone = next((name for name in GONE if f"{meaning}.".startswith(f"{name}.")), None)
    line = node.lineno
    if gone is not None and not module.is_guarded(node, *MISSING):
        yield Use(line, "gone", meaning, GONE[gone])
    elif meaning.split(".")[0] == "smtpd":
        yield Use(line, "smtpd", meaning)
    elif isinstance(parent, ast.ClassDef) and node in parent.bases:
        yield Use(line, "subclass", f"class {parent.name} derives from {meaning}")
    elif not _is_mere_alias(module, node):
        yield Use(line, "use", meaning)


def _is_mere_alias(module: Module, node: ast.AST) -> bool:
    # After "map = asyncore.socket_map" each "map" is no news.
    while isinstance(node, ast.Attribute):
        node = node.value
    if not isinstance(node, ast.Name) or module.meaning(node) in (None, *MODULES):
        return False
    return not any(isinstance(bound, str) for bound in module.bound_at(node))


# -- Strings ----------------------------------------------------------------------

_NAMED = re.compile(rf"({'|'.join(MODULES)})(\.[A-Za-z_]\w*)*")
_CODE = re.compile(rf"^[ \t]*(?:import|from)[ \t]+({'|'.join(MODULES)})\b", re.MULTILINE)
_DOTTED = re.compile(rf"\b({'|'.join(MODULES)})\.[A-Za-z_]")

#: Functions whose first argument is the name of a module, or of something in one.
_FINDERS = frozenset(
    {
        *("__import__", "find_loader", "find_module", "find_spec", "import_fresh_module"),
        *("import_module", "import_string", "importorskip", "load_module", "locate", "patch"),
        *("resolve_name", "run_module"),
    }
)
#: Those that take such a name if there is a dot in it, and something else if not.
_SETTERS = frozenset({"setattr", "delattr"})
_TABLE = "sys.modules"


def string_rule(value: str, callee: str, is_key: bool, in_use: bool) -> str | None:
    """What a string outside of docstrings is found to be.

    :param callee: the dotted name of the function whose first argument it is; or empty.
    :param is_key: whether it is a key of ``sys.modules``.
    :param in_use: whether the source uses one of the modules besides.
    :return: a key of :data:`RULES`, or None.

    >>> string_rule("asyncore.loop", "mock.patch", False, False)
    'by-name'
    >>> string_rule("asyncore", "print", False, False)
    'mention'
    >>> string_rule("smtpd", "logging.getLogger", False, False)
    """
    if _NAMED.fullmatch(value):
        called = callee.split(".")[-1]
        if is_key or called in _FINDERS or (called in _SETTERS and "." in value):
            return "by-name"
        return "mention" if in_use or not value.startswith("smtpd") else None
    return "mention" if _CODE.search(value) else None


def _string(module: Module, node: ast.Constant, value: str) -> Iterator[Use]:
    if not any(name in value for name in MODULES):
        return
    parent = module.parents[node]
    if isinstance(parent, (ast.Expr, ast.JoinedStr)):
        return  # a docstring, or such; or a piece of text
    if _is_annotation(module, node):
        if found := _DOTTED.search(value):
            yield Use(node.lineno, "use", found[1])
        return
    callee = ""
    if isinstance(parent, ast.Call) and parent.args[:1] == [node]:
        callee = _dotted(parent.func)
    rule = string_rule(value, callee, _is_key(module, node), module.uses_the_modules())
    if rule is None or value.split(".")[0] in module.copies:
        return
    if _NAMED.fullmatch(value):
        yield Use(node.lineno, rule, f'"{value}"')
    else:
        found = _CODE.search(value)
        assert found is not None
        line = node.lineno + value.count("\n", 0, found.start(1))
        yield Use(min(line, node.end_lineno or line), rule, f'"{found[0].strip()}"')


def _is_annotation(module: Module, node: ast.AST) -> bool:
    for outer, inner in module.above(node):
        if isinstance(outer, (ast.arg, ast.AnnAssign)):
            return outer.annotation is inner
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return outer.returns is inner
        if isinstance(outer, (ast.stmt, ast.Call)):
            return False
    return False


def _is_key(module: Module, node: ast.Constant) -> bool:
    # sys.modules["asyncore"]; "asyncore" in sys.modules; sys.modules.pop("asyncore");
    # patch.dict("sys.modules", {"asyncore": fake})
    parent = module.parents[node]
    if isinstance(parent, ast.Subscript):
        return _dotted(parent.value) == _TABLE
    if isinstance(parent, ast.Compare):
        return any(_dotted(each) == _TABLE for each in parent.comparators)
    if isinstance(parent, ast.Call):
        return _dotted(parent.func).startswith(f"{_TABLE}.") or _is_table(parent.args[:1])
    if isinstance(parent, ast.Dict):
        call = module.parents[parent]
        return isinstance(call, ast.Call) and _is_table(call.args[:1])
    return False


def _is_table(arguments: list[ast.expr]) -> bool:
    return any(
        _dotted(each) == _TABLE or (isinstance(each, ast.Constant) and each.value == _TABLE)
        for each in arguments
    )


def _dotted(node: ast.AST) -> str:
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    words.append(node.id if isinstance(node, ast.Name) else "")
    return ".".join(reversed(words))
