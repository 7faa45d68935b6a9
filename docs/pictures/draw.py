"""Draws the pictures of the documentation: python docs/pictures/draw.py writes them all.

A picture has a ground of its own, so that it can be read on light and on dark pages.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).parent

STYLE = """
text { font: 14px system-ui, "DejaVu Sans", sans-serif; fill: #1d2733; }
.code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12.5px; }
.small { font-size: 12px; fill: #51606f; }
.title { font-weight: 600; }
.ground { fill: #fafbfc; stroke: #d5dbe1; }
.box { fill: #ffffff; stroke: #51606f; stroke-width: 1.3; }
.core { fill: #e4eefb; stroke: #2d5f9e; }
.yours { fill: #e9f6ea; stroke: #37803f; }
.waits { fill: #fdf1dc; stroke: #a36a10; }
.line { fill: none; stroke: #51606f; stroke-width: 1.5; }
.back { stroke: #a36a10; stroke-dasharray: 5 4; }
marker path { fill: #51606f; }
#back path { fill: #a36a10; }
"""

Point = tuple[float, float]


class Picture:
    """Boxes, and arrows between them; all numbers are in pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "<defs>",
            *(
                f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
                f'markerHeight="8" orient="auto"><path d="M0 0L10 5L0 10z"/></marker>'
                for name in ("on", "back")
            ),
            "</defs>",
            f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" '
            'rx="8"/>',
        ]

    def text(self, at: Point, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Write one line."""
        self._parts.append(
            f'<text class="{kind}" x="{at[0]}" y="{at[1]}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def box(
        self,
        at: Point,
        size: Point,
        lines: list[tuple[str, str]],
        kind: str = "",
        id: str = "",
    ) -> None:
        """Draw a box with lines of text, each with its kind."""
        name = f' id="{id}"' if id else ""
        self._parts.append(
            f'<rect{name} class="box {kind}" x="{at[0]}" y="{at[1]}" width="{size[0]}" '
            f'height="{size[1]}" rx="6"/>'
        )
        first = at[1] + size[1] / 2 - 9 * (len(lines) - 1) + 5
        for number, (words, style) in enumerate(lines):
            self.text((at[0] + size[0] / 2, first + 18 * number), words, style)

    def arrow(self, *points: Point, back: bool = False, about: str = "") -> None:
        """Draw an arrow along points.

        :param back: whether it is of what holds the others up.
        :param about: attributes that say what it stands for.
        """
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        kind, marker = ("line back", "back") if back else ("line", "on")
        self._parts.append(f'<path class="{kind}" d="{path}" marker-end="url(#{marker})"{about}/>')

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])


def bytes_in() -> Picture:
    """What happens to a byte that is received."""
    it = Picture(740, 310, "Bytes in: from the peer to the callbacks of a handler")
    it.box((20, 30), (70, 54), [("peer", "title")])
    it.box((140, 30), (110, 54), [("transport", "title"), ("Twisted's", "small")])
    it.box((370, 30), (110, 54), [("AsyncChat", "title"), ("protocol.py", "small")])
    it.box((560, 30), (140, 54), [("Framer", "title"), ("core/framing.py", "small")], "core")
    it.box((560, 200), (140, 54), [("Matcher", "title"), ("core/terminators.py", "small")], "core")
    handler = [
        ("your handler", "title"),
        ("collect_incoming_data(piece)", "code"),
        ("found_terminator()", "code"),
    ]
    it.box((260, 180), (230, 94), handler, "yours")
    pauses = [
        ("pauses", "title"),
        ("for whatever reasons;", "small"),
        ("none left: go on", "small"),
    ]
    it.box((20, 180), (150, 94), pauses, "waits")
    it.arrow((90, 57), (140, 57))
    it.arrow((250, 57), (370, 57))
    it.text((310, 48), "dataReceived()", "code")
    it.arrow((480, 57), (560, 57))
    it.text((520, 48), "deliver()", "code")
    it.arrow((625, 84), (625, 200))
    it.arrow((645, 200), (645, 84))
    for number, words in enumerate(("where does", "the message", "end?")):
        it.text((655, 128 + 16 * number), words, "small", "start")
    it.arrow((580, 84), (580, 145), (400, 145), (400, 180))
    it.text((490, 137), "one call after another", "small")
    it.arrow((260, 227), (170, 227), back=True)
    it.text((215, 218), "busy", "small")
    it.arrow((95, 180), (95, 130), (195, 130), (195, 84), back=True)
    it.text((203, 112), "pauseProducing()", "code", "start")
    it.text((370, 296), "dashed: what makes the peer wait, instead of filling the memory", "small")
    return it


def bytes_out() -> Picture:
    """What happens to a byte that is pushed."""
    it = Picture(740, 300, "Bytes out: from push() to the peer")
    handler = [("your handler", "title"), ("push(data)", "code"), ("push_with_producer(p)", "code")]
    it.box((20, 40), (190, 94), handler, "yours")
    it.box((20, 195), (190, 54), [("as more()", "title"), ("producers.py", "small")])
    it.box((310, 60), (130, 54), [("queue", "title"), ("core/outbox.py", "small")], "core")
    it.box((310, 195), (130, 54), [("pause of input", "title"), ("output full", "small")], "waits")
    it.box((500, 60), (100, 54), [("Output", "title"), ("output.py", "small")])
    it.box((500, 195), (100, 54), [("transport", "title"), ("Twisted's", "small")])
    it.box((650, 195), (70, 54), [("peer", "title")])
    it.arrow((210, 77), (310, 77))
    it.text((281, 69), "bytes", "small")
    it.arrow((50, 134), (50, 195))
    it.text((58, 161), "files, iterables,", "small", "start")
    it.text((58, 177), "Twisted's producers", "small", "start")
    it.arrow((210, 215), (255, 215), (255, 98), (310, 98))
    it.arrow((440, 87), (500, 87))
    it.arrow((530, 114), (530, 195))
    it.text((522, 160), "write()", "code", "end")
    it.arrow((600, 222), (650, 222))
    it.arrow((575, 195), (575, 114), back=True)
    it.text((583, 150), "pauseProducing()", "code", "start")
    it.text((583, 168), "resumeProducing()", "code", "start")
    it.arrow((365, 114), (365, 195), back=True)
    for number, (words, kind) in enumerate(
        (("over", "small"), ("max_queued_", "code"), ("output", "code"))
    ):
        it.text((373, 140 + 16 * number), words, kind, "start")
    it.arrow((550, 60), (550, 22), (232, 22), (232, 235), (210, 235), back=True)
    it.text((391, 40), "more() is called only while there is room", "small")
    it.text((370, 282), "all kinds wait in one queue: what was pushed first is sent first", "small")
    return it


def lifecycle() -> Picture:
    """The states of a connection, and what moves it from one to the next."""
    it = Picture(740, 400, "The states of a connection")
    for name, at, size, about, kind in (
        ("closed", (20, 20), (600, 46), "handle_close() is called", ""),
        ("new", (20, 160), (130, 60), "no transport yet", ""),
        ("open", (235, 160), (130, 60), "bytes go both ways", "core"),
        ("flushing", (460, 160), (160, 60), "what is queued is sent", ""),
        ("closing", (20, 330), (600, 46), "the transport was told to close", ""),
    ):
        it.box(at, size, [(name, "title"), (about, "small")], kind, id=name)

    def moves(start: str, events: str, end: str, label: Point, anchor: str, *path: Point) -> None:
        it.arrow(*path, about=f' data-from="{start}" data-events="{events}" data-to="{end}"')
        it.text(label, events.replace(" ", ", "), "", anchor)

    for start, x in (("new", 60), ("open", 300), ("flushing", 540)):
        moves(start, "lost", "closed", (x + 7, 118), "start", (x, 160), (x, 66))
        moves(start, "close", "closing", (x + 7, 302), "start", (x, 220), (x, 330))
    moves("new", "connected", "open", (192, 180), "middle", (150, 190), (235, 190))
    beneath = [(120, 220), (120, 266), (500, 266), (500, 220)]
    moves("new", "finish", "flushing", (210, 259), "middle", *beneath)
    moves("open", "finish fail", "flushing", (412, 180), "middle", (365, 190), (460, 190))
    again = [(620, 175), (650, 175), (650, 205), (620, 205)]
    moves("flushing", "connected fail", "flushing", (638, 240), "middle", *again)
    aside = [(620, 353), (710, 353), (710, 43), (620, 43)]
    moves("closing", "lost", "closed", (703, 118), "end", *aside)
    return it


def input_goes_to() -> Picture:
    """Who is given what comes in."""
    it = Picture(740, 290, "Who is given the input: a read, nobody, or the callbacks")
    it.box((20, 30), (120, 54), [("input", "title"), ("in the framer", "small")], "core")
    it.box((210, 30), (190, 54), [("does a coroutine", ""), ("read now?", "")])
    it.box((210, 120), (190, 54), [("has one the right", ""), ("to the next bytes?", "")])
    reads = [("the read gets it", "title"), ("await self.read_until()", "code")]
    it.box((480, 30), (240, 54), reads, "yours")
    waits = [("it waits, the peer too", "title"), ("pause: nobody reads", "small")]
    it.box((480, 120), (240, 54), waits, "waits")
    callbacks = [
        ("the callbacks get it", "title"),
        ("collect_incoming_data(piece)", "code"),
        ("found_terminator()", "code"),
    ]
    it.box((480, 204), (240, 70), callbacks, "yours")
    it.arrow((140, 57), (210, 57))
    for y in (57, 147):
        it.arrow((400, y), (480, y))
        it.text((440, y - 8), "yes", "small")
        it.text((313, y + 49), "no", "small", "start")
    it.arrow((305, 84), (305, 120))
    it.arrow((305, 174), (305, 239), (480, 239))
    for number, words in enumerate(
        ("asked again whenever", "a read begins or ends,", "in the middle of a", "chunk too")
    ):
        it.text((20, 120 + 16 * number), words, "small", "start")
    return it


PICTURES = {
    "bytes-in": bytes_in,
    "bytes-out": bytes_out,
    "input-goes-to": input_goes_to,
    "lifecycle": lifecycle,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / f"{name}.svg").write_text(str(draw()))
