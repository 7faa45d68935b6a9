"""Sources that this Python can't parse: what is Python 2 in them, and which modules they use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from txasynchat.uses import GONE, LIBRARIES, MODULES, STAR, Use, string_rule, use_of

__all__ = ("Token", "python_2_in", "tokens", "uses_in_tokens")


class Token(NamedTuple):
    """A piece of a source.

    :ivar line: where it begins, from 1.
    :ivar kind: ``name``, ``number``, ``string``, ``op``, or ``end`` between statements.
    :ivar depth: how many brackets are open.

    >>> [token.text for token in tokens("print 'a' # b")]
    ['print', "'a'", '']
    """

    line: int
    kind: str
    text: str
    depth: int


_TOKEN = re.compile(
    r"""(?P<blank>[ \t\f]+|\\\r?\n|\#[^\r\n]*)
    |(?P<newline>\r\n|\n|\r)
    |(?P<string>[A-Za-z]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z)|'''(?:[^\\]|\\.)*?(?:'''|\Z)
        |"(?:[^"\\\r\n]|\\\r\n|\\.)*"?|'(?:[^'\\\r\n]|\\\r\n|\\.)*'?))
    |(?P<number>\d\w*(?:\.\w*)?|\.\d\w*)
    |(?P<name>[^\W\d]\w*)
    |(?P<op><>|[-+*/%&|^<>=!]=|>>|<<|.)""",
    re.VERBOSE | re.DOTALL,
)


def tokens(source: str) -> Iterator[Token]:
    """Cut a source into pieces, whatever Python it is for, and be it broken.

    The module ``tokenize`` refuses from Python 3.12 on what Python 2 took.
    """
    line, depth = 1, 0
    for match in _TOKEN.finditer(source):
        kind, text = str(match.lastgroup), match[0]
        if kind == "op":
            depth = max(0, depth + (text in "([{") - (text in ")]}"))
        if kind == "newline" and not depth:
            yield Token(line, "end", "", 0)
        elif kind == "op" and text in ";:" and not depth:
            yield Token(line, "end", text, 0)
        elif kind not in ("blank", "newline"):
            yield Token(line, kind, text, depth)
        line += len(re.findall(r"\r\n|\n|\r", text))
    yield Token(line, "end", "", 0)


def _statements(source: str) -> Iterator[list[Token]]:
    # Without what ends them. "else" and the like are statements here.
    statement: list[Token] = []
    for token in tokens(source):
        if token.kind != "end":
            statement.append(token)
        elif statement:
            yield statement
            statement = []


# -- What is Python 2 -------------------------------------------------------------


def python_2_in(source: str) -> list[tuple[int, str]]:
    r"""Syntax that Python 3 dropped: where each kind is met first, and what it is.

    >>> python_2_in("try:\n  print 'a'\nexcept OSError, why:\n  raise IOError, why\n")
    [(2, 'print'), (3, 'except ..., name'), (4, 'raise ..., value')]
    """
    found: dict[str, int] = {}
    for statement in _statements(source):
        for line, what in _marks(statement):
            found.setdefault(what, line)
    return sorted((line, what) for what, line in found.items())


_COMMAS = {"except": "except ..., name", "raise": "raise ..., value"}
_OCTAL = re.compile(r"0[0-7]*[1-7][0-7]*")
_LONG = re.compile(r"(0x[\da-f]+|\d+)l", re.IGNORECASE)


def _marks(statement: list[Token]) -> Iterator[tuple[int, str]]:
    first = statement[0]
    second = statement[1] if len(statement) > 1 else first
    operand = second is not first and second.kind in ("name", "string", "number")
    if first.text in ("print", "exec") and (operand or second.text in (">>", "`")):
        if second.text not in ("in", "is", "if", "and", "or"):
            yield first.line, first.text
    elif first.text in _COMMAS and any(x.text == "," and not x.depth for x in statement):
        yield first.line, _COMMAS[first.text]
    if first.text == "def" and _has_tuple_parameter(statement):
        yield first.line, "a tuple as a parameter"
    for at, token in enumerate(statement):
        if token.text == "`":
            yield token.line, "backticks"
        elif token.text == "<>":
            yield token.line, "<>"
        elif token.kind == "string" and re.match("ur", token.text, re.IGNORECASE):
            yield token.line, "ur''"
        elif token.kind == "number" and _OCTAL.fullmatch(token.text):
            yield token.line, "octal numbers without 0o"
        elif token.kind == "number" and _LONG.fullmatch(token.text):
            yield token.line, "long numbers"
        elif token.text == "async" and _is_name(statement, at):
            yield token.line, "async as a name"


def _has_tuple_parameter(statement: list[Token]) -> bool:
    return any(
        token.text == "(" and token.depth == 2 and statement[at - 1].text in ("(", ",")
        for at, token in enumerate(statement)
    )


def _is_name(statement: list[Token], at: int) -> bool:
    after = statement[at + 1].text if at + 1 < len(statement) else ""
    before = statement[at - 1].text if at else ""
    return before in (".", "import", "as") or after in ("=", ",", "(", ")", ".", "")


# -- Uses -------------------------------------------------------------------------


def uses_in_tokens(source: str, copies: frozenset[str] = frozenset()) -> Iterator[Use]:
    r"""Each use of the removed modules, without understanding more than names and dots.

    :param copies: those of the modules that ``import`` would find a copy of here.

    >>> [use.what for use in uses_in_tokens("import asyncore\nprint 1\nasyncore.loop()")]
    ['import asyncore', 'asyncore.loop']
    """
    bound: dict[str, str] = {}
    statements = list(_statements(source))
    imports: list[list[Use]] = []
    for statement in statements:
        found: list[Use] = []
        if statement[0].text == "import":
            found = list(_imports(statement, bound, copies))
        elif statement[0].text == "from":
            found = list(_imports_from(statement, bound, copies))
        imports.append(found)
    for statement, found in zip(statements, imports, strict=True):
        if statement[0].text in ("import", "from"):
            yield from found
        else:
            yield from _names(statement, bound)


def _parts(statement: list[Token]) -> Iterator[tuple[int, str, str]]:
    # Of "a.b as c, d": the line, the dotted name, and the name after "as".
    words: list[str] = []
    line = statement[0].line if statement else 0
    for token in [*statement, Token(0, "op", ",", 0)]:
        if token.text == ",":
            text = "".join(f" {word} " if word == "as" else word for word in words)
            name, _, alias = text.partition(" as ")
            if name:
                yield line, name, alias
            words = []
        elif token.text not in "()":
            line = line if words else token.line
            words.append(token.text)


def _imports(
    statement: list[Token], bound: dict[str, str], copies: frozenset[str]
) -> Iterator[Use]:
    for line, name, alias in _parts(statement[1:]):
        first, last = name.split(".")[0], name.split(".")[-1]
        words = f"import {name}" + (f" as {alias}" if alias else "")
        if first in LIBRARIES:
            yield Use(line, "library", f"import {first}")
        elif first in MODULES and first not in copies:
            bound[alias or first] = first
            yield Use(line, "smtpd" if first == "smtpd" else "import", words)
        elif name in ("txasynchat.asyncore", "txasynchat.asynchat"):
            bound[alias or "txasynchat"] = last if alias else "txasynchat"
            yield Use(line, "migrated", words)
        elif last in MODULES or alias in MODULES:
            yield Use(line, "copy", words)


def _imports_from(
    statement: list[Token], bound: dict[str, str], copies: frozenset[str]
) -> Iterator[Use]:
    at = next((i for i, token in enumerate(statement) if token.text == "import"), len(statement))
    base = "".join(token.text for token in statement[1:at])
    first, last = base.split(".")[0], base.split(".")[-1]
    for line, name, alias in _parts(statement[at + 1 :]):
        words = f"from {base} import {name}" + (f" as {alias}" if alias else "")
        if base == "txasynchat" and name in MODULES:
            bound[alias or name] = name
            yield Use(line, "migrated", words)
        elif base in ("txasynchat.asyncore", "txasynchat.asynchat"):
            bound[alias or name] = f"{last}.{name}"
            yield Use(line, "migrated", words)
        elif first in LIBRARIES:
            yield Use(line, "library", f"import {first}")
        elif first in MODULES and first not in copies:
            for each in sorted(STAR.get(base, ())) if name == "*" else [name]:
                bound[alias or each] = f"{base}.{each}"
            yield Use(line, "smtpd" if first == "smtpd" else "import", words)
        elif last in MODULES or name in MODULES or alias in MODULES:
            yield Use(line, "copy", words)


def _names(statement: list[Token], bound: dict[str, str]) -> Iterator[Use]:
    in_class = statement[0].text == "class"
    for at, token in enumerate(statement):
        before = statement[at - 1].text if at else ""
        after = statement[at + 1].text if at + 1 < len(statement) else ""
        if token.kind == "string":
            yield from _string(statement, at, bool(bound))
        if token.kind != "name" or token.text not in bound:
            continue
        if (before == "." and statement[at - 2].text not in ("self", "cls")) or (
            after == "=" and token.depth
        ):
            continue
        if before == "." and bound[token.text] not in MODULES:
            continue
        meaning = bound[token.text] + _attributes(statement, at)
        if not use_of(meaning):
            continue
        if meaning in GONE:
            yield Use(token.line, "gone", meaning)
        elif meaning.split(".")[0] == "smtpd":
            yield Use(token.line, "smtpd", meaning)
        elif in_class and at > 1 and token.depth == 1:
            name = statement[1].text
            yield Use(token.line, "subclass", f"class {name} derives from {meaning}")
        else:
            yield Use(token.line, "use", meaning)


def _attributes(statement: list[Token], at: int) -> str:
    words = ""
    while at + 2 < len(statement) and statement[at + 1].text == ".":
        words += f".{statement[at + 2].text}"
        at += 2
    return words


def _string(statement: list[Token], at: int, in_use: bool) -> Iterator[Use]:
    token = statement[at]
    value = re.sub(r"^[A-Za-z]*(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$", "", token.text)
    if len(statement) == 1 or not any(name in value for name in MODULES):
        return
    before = [each.text for each in statement[:at]]
    callee = before[-2] if before[-1:] == ["("] and len(before) > 1 else ""
    is_key = before[-4:] == ["sys", ".", "modules", "["]
    rule = string_rule(value, callee, is_key, in_use)
    if rule is not None:
        what = value if len(value.split()) == 1 else value.strip().splitlines()[0]
        yield Use(token.line, rule, f'"{what}"')
