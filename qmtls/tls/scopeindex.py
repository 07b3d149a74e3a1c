"""Which of many scopes may permit a sender and a recipient, without looking at each: for a client with thousands of
rules (a gateway with a line for each of its customers).

Every scope is filed under each of its `from=` patterns, or under "any", and likewise by `to=`. One that permits is
found both ways, so the way that gives fewer is taken. What is found is only a candidate: its scope has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence

from qmtls.tls.scope import Mailbox, Patterns, Scope, words_for

ANY = ""  # no pattern is empty
FEW = 4  # candidates are looked through rather than sought another way

Places = dict[str, list[int]]


class ScopeIndex:
    """Places in a sequence of scopes, by pattern."""

    __slots__ = ("_recipients", "_senders")

    def __init__(self, scopes: Sequence[Scope]) -> None:
        self._senders: Places = {}
        self._recipients: Places = {}
        for place, scope in enumerate(scopes):
            _file(self._senders, scope.senders, place)
            _file(self._recipients, scope.recipients, place)

    def for_sender(self, sender: Mailbox | None) -> list[list[int]]:
        """The places that permit it, in lists that each ascend."""
        return _found(self._senders, sender)

    def candidates(self, sender: Mailbox | None, recipient: Mailbox) -> Sequence[int]:
        """Every place that may permit both, ascending."""
        fewer = _found(self._senders, sender)
        if sum(map(len, fewer)) > FEW:
            fewer = min(fewer, _found(self._recipients, recipient), key=lambda lists: sum(map(len, lists)))
        # The filed lists ascend already; mostly there is one.
        return fewer[0] if len(fewer) == 1 else sorted({place for places in fewer for place in places})


def _file(places: Places, patterns: Patterns | None, place: int) -> None:
    for word in (ANY,) if patterns is None else patterns.words:
        places.setdefault(word, []).append(place)


def _found(places: Places, address: Mailbox | None) -> list[list[int]]:
    return [places[word] for word in (ANY, *words_for(address)) if word in places]
