"""JSON lines over standard input and output.

One request per line, {"add": [numbers]} or {"echo": anything}; one line of
response to each, in order. It ends when the input does and all is answered, so
it can stand in a shell's pipeline:

    printf '{"add": [1, 2]}\\n' | python examples/json_lines.py
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from twisted.internet.stdio import StandardIO
from twisted.internet.task import react

from txasynchat import AsyncChat


class JSONLines(AsyncChat):
    """Answers one JSON object per line."""

    # A line may have any size: it is kept in memory, but whoever writes to our
    # standard input started us. On a network, keep a limit.
    max_message_length = None

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        try:
            result = answer(json.loads(self._get_data()))
            response = json.dumps({"result": result}, allow_nan=False)
        except (ValueError, OverflowError, RecursionError) as error:
            response = json.dumps({"error": str(error)})
        self.push(response.encode("ascii") + b"\n")


def answer(request: Any) -> Any:
    match request:
        case {"add": [*numbers]} if all(isinstance(each, (int, float)) for each in numbers):
            return sum(numbers)
        case {"echo": value}:
            return value
    raise ValueError('expected {"add": [numbers]} or {"echo": anything}')


async def main(reactor: Any) -> None:
    chat = JSONLines()
    StandardIO(chat, reactor=reactor)
    # At the end of the input AsyncChat closes by itself, behind the last response.
    await chat.closed()
    if chat.incoming and chat.close_detail == "it finished sending":
        raise SystemExit("json_lines: the last line has no newline and was not answered")


if __name__ == "__main__":
    ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()
    react(main)
