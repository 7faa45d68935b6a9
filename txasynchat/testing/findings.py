"""What the conformance kit finds, and the rules by which it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ("Finding", "NotConforming")

#: The rules by their names, each with what to do about a handler that breaks it.
_RULES = {
    "errors": (
        "Nothing that a peer sends may make a handler raise, or leave a Deferred's failure "
        "to nobody: answer what is wrong, or close."
    ),
    "chunking": (
        "A network cuts a stream anywhere: collect what comes, and act in found_terminator() "
        "only. A piece is no message, and its length means nothing."
    ),
    "slow-reader": (
        "push() all that is to be sent, mind what send() returns, and end with "
        "close_when_done(): close() drops what is queued."
    ),
    "half-close": (
        "A peer that has finished sending waits for its answers: return the Deferred, or make "
        "it async def, so that the connection stays until they are sent."
    ),
    "disconnect": (
        "A peer may go at any moment: handle_close() has to cope with whatever is not there yet; "
        "a legacy one has to close(); an overridden connectionLost() has to call the base's."
    ),
    "after-close": (
        "What a handler has begun ends with its connection: stop timers in handle_close(), and "
        "look at is_open before something is pushed late."
    ),
    "pauses": (
        "Where the transport says pause nothing more may be written: push(), not "
        "transport.write() or sendall(); a producer heeds pauseProducing()."
    ),
    "queues": (
        "What is kept for a peer has a limit: leave max_queued_output on, and bound your own lists."
    ),
    "endless-message": (
        "A message that never ends must not be kept: leave max_message_length on, and bound "
        "what you buffer yourself or count."
    ),
}


@dataclass(frozen=True)
class Finding:
    """A rule that a handler breaks.

    :ivar rule: its name.
    :ivar what: what happened.
    :ivar reproduce: what to do to see it again, as code for :mod:`txasynchat.testing`.
    :ivar advice: what to do about it.

    >>> print(Finding("errors", "it raised", "talk.receive(b'x')", "don't"))
    errors: it raised
        with connect(...) as talk:
            talk.receive(b'x')
        don't
    """

    rule: str
    what: str
    reproduce: str
    advice: str

    def __str__(self) -> str:
        code = self.reproduce.replace("\n", "\n        ")
        what = self.what.rstrip().replace("\n", "\n    ")
        lines = f"{self.rule}: {what}", "with connect(...) as talk:", f"    {code}", self.advice
        return "\n    ".join(lines)


class NotConforming(AssertionError):
    """Raised when a handler breaks rules.

    :ivar findings: what was found, a list of :class:`Finding`.

    >>> error = NotConforming("Upper", [Finding("errors", "it raised", "", "")])
    >>> error.findings[0].rule
    'errors'
    """

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        self.findings: list[Finding] = list(findings)
        texts = "\n\n".join(map(str, findings))
        super().__init__(f"{name} breaks rules that every handler has to keep\n\n{texts}")
