"""What the README and the pages of the documentation show as code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!--\ (?P<mark>[^>]*?)\ -->\n)?"
    r"^(?P<indent>\ *)(?P<fence>```+|~~~+|:::+)(?P<language>[^\n`]*)\n"
    r"(?P<text>.*?)"
    r"^(?P=indent)(?P=fence)\ *$",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :ivar page: the file's name.
    :ivar line: where it begins there.
    :ivar language: what stands behind the fence; of a directive, with its braces.
    :ivar mark: the comment right in front of it, if there is one.
    """

    page: str
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def begins_with(self, start: str) -> bool:
        """Whether it does, behind the prompt, or its mark is that."""
        return self.mark == start or self.text.removeprefix("$ ").startswith(start)

    @property
    def is_directive(self) -> bool:
        """Whether it is for Sphinx, not for readers."""
        return self.language.startswith("{")

    @property
    def is_python(self) -> bool:
        """Whether it is executed where it stands."""
        return self.language == "python" and not self.is_part

    @property
    def file(self) -> str:
        """The name of the file that readers are told to make of it, if they are."""
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else ""

    @property
    def is_part(self) -> bool:
        """Whether it shows parts of a file."""
        return self.mark.startswith("part of: ")


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """All blocks of a page, in order."""
    text = page.read_text()
    return tuple(
        Block(
            page.name,
            text.count("\n", 0, found.start("fence")) + 1,
            found["language"].strip(),
            (found["mark"] or "").strip(),
            re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for found in _BLOCK.finditer(text)
    )


def block(page: str, start: str) -> Block:
    """The one block of a page that begins with these words, or whose mark is that.

    What a test takes in this way counts as tried by it: ``test_documentation`` looks for such
    calls, so both have to be literals.
    """
    (path,) = [each for each in PAGES if each.name == page]
    found = [each for each in blocks(path) if each.begins_with(start)]
    assert len(found) == 1, f"{len(found)} blocks of {page} begin with {start!r}"
    return found[0]


@dataclass(frozen=True)
class Command:
    """A command that a page shows, and what it shows as its output."""

    line: str
    output: str


def commands(shown: Block) -> list[Command]:
    """The commands of a block: behind ``$``, with what they print; or of a script, each line."""
    text = shown.text.replace("\\\n", "")
    if not text.startswith("$ "):
        return [Command(line, "") for line in text.splitlines() if line]
    parts = [part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    found: list[Command] = []
    for line, _, output in parts:
        if line.rstrip().endswith("|"):  # goes on in the next line
            more, _, output = output.partition("\n")
            line += more
        found.append(Command(line, output))
    return found


def changed(line: str, *changes: tuple[str, str]) -> str:
    """A command with other ports, say: each of what is changed has to be in it."""
    for before, after in changes:
        assert before in line, f"no {before!r} in {line!r}"
        line = line.replace(before, after)
    return line
