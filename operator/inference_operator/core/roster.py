"""Which endpoints of one account are at rest, as lists go on to confirm; pure, times are monotonic."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _Member:
    endpoint_id: str
    listed: Any
    shown_at: float
    joined_at: float


class Roster:
    """The resources of one account whose endpoints were at rest when they were last looked at.

    A list confirms what a look has shown, or it does not; nothing is ever concluded from what it shows instead. Such
    an endpoint leaves the roster and has to be looked at, and so does one that a list does not name.
    """

    def __init__(self) -> None:
        """Begin without anybody."""
        self._members: dict[str, _Member] = {}
        self._uids: dict[str, set[str]] = {}
        self._unnamed: set[str] = set()
        self._dismissed: dict[str, float] = {}
        self._moved: dict[str, float] = {}
        self._blind = False

    def __len__(self) -> int:
        return len(self._members)

    @property
    def wanted(self) -> Container[str]:
        """The ids of the endpoints that matter in a list."""
        return self._uids.keys() | self._unnamed

    def join(self, uid: str, endpoint_id: str, listed: Any, at: float, *, now: float) -> bool:
        """A look that began then has found the endpoint at rest, and is over now.

        Returns:
            Whether lists will tell when it moves: not while they cannot be read, or have not named it, and not if one
            has shown since the look began that it moves already.
        """
        moved_at = self._moved.get(uid, at)
        self.leave(uid)
        if moved_at > at:
            self._moved[uid], self._dismissed[uid] = moved_at, at
            return False
        if self._blind or endpoint_id in self._unnamed:
            return False
        self._members[uid] = _Member(endpoint_id, listed, at, now)
        self._uids.setdefault(endpoint_id, set()).add(uid)
        return True

    def leave(self, uid: str) -> None:
        """Something is under way, or the resource is gone; also fine for a stranger."""
        self._dismissed.pop(uid, None)
        self._moved.pop(uid, None)
        member = self._members.pop(uid, None)
        if member is None:
            return
        others = self._uids[member.endpoint_id]
        others.discard(uid)
        if not others:
            del self._uids[member.endpoint_id]

    def confirmed(self, uid: str, since: float) -> Any:
        """What the endpoint's last look has shown, if that look or a list has shown it since then; else None."""
        member = self._members.get(uid)
        return member.listed if member is not None and member.shown_at >= since else None

    def shown_at(self, uid: str) -> float | None:
        """When the endpoint was last seen to be as its last look has shown it; None for a stranger."""
        member = self._members.get(uid)
        return self._dismissed.get(uid) if member is None else member.shown_at

    def has_moved(self, uid: str) -> bool:
        """Whether a list has shown the endpoint otherwise than its last look."""
        return uid in self._moved

    def note(self, entries: Mapping[str, Any], at: float) -> list[str]:
        """A part of a list was asked for then and shows this; returns who has to look."""
        self._blind = False
        self._unnamed -= entries.keys()
        moved = []
        for endpoint_id, shown in entries.items():
            for uid in self._uids.get(endpoint_id, ()):
                member = self._members[uid]
                if member.shown_at > at:
                    continue  # the look is the newer one
                if member.listed == shown:
                    member.shown_at = at
                else:
                    moved.append(uid)
        dismissed = self._dismiss(moved)
        self._moved |= dict.fromkeys(dismissed, at)
        return dismissed

    def complete(self, begun: float) -> list[str]:
        """A list that was begun then has come to its end; returns who has to look, since it has not named them.

        Who has joined meanwhile may have been named before that: the next list will tell.
        """
        missed = [uid for uid, each in self._members.items() if max(each.shown_at, each.joined_at) < begun]
        self._unnamed |= {self._members[uid].endpoint_id for uid in missed}
        return self._dismiss(missed)

    def blind(self) -> list[str]:
        """Lists cannot be read; returns who has to look by themselves from now on."""
        self._blind = True
        return self._dismiss(self._members)

    def _dismiss(self, uids: Iterable[str]) -> list[str]:
        dismissed = list(uids)
        for uid in dismissed:
            shown_at = self._members[uid].shown_at
            self.leave(uid)
            self._dismissed[uid] = shown_at
        return dismissed
