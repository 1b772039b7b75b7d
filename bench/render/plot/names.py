"""Where the names of points stand: clear of everything else that is drawn, so that each can mean one point only.

Lengths are in points of print, y upwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, hypot, radians, sin

MARKER = 2.4
"""Radius of a marker."""
_NEAR = tuple((aside, up) for aside in (4.0, -4.0) for up in (1, 0, -1))
"""Where a name may stand without a leader line: how far aside, and whether above, on or below the marker's height."""
_FAR = (10.0, 15.0, 21.0, 28.0, 36.0, 45.0, 57.0, 70.0)
"""Lengths of leader lines; a longer one is not followed by the eye."""
_ANGLES = tuple(
    base + turn * side
    for turn in (25, 0, 45, 65)
    for base, side in ((0, 1), (0, -1), (180, -1), (180, 1))
    if turn or side > 0
)
_LED_OFF = 7.0
"""How far the name at the end of a leader keeps off other markers, so as not to be taken for theirs."""
_AIR = 1.0
"""How far names keep off whatever else is drawn."""


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x0: float
    y0: float
    x1: float
    y1: float

    def grown(self, by: float) -> Box:
        """Return the box with a margin."""
        return Box(self.x0 - by, self.y0 - by, self.x1 + by, self.y1 + by)

    def overlaps(self, other: Box) -> bool:
        """Say whether they share any place."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def holds(self, other: Box) -> bool:
        """Say whether the other lies inside."""
        return self.x0 <= other.x0 and other.x1 <= self.x1 and self.y0 <= other.y0 and other.y1 <= self.y1

    def distance(self, x: float, y: float) -> float:
        """Return how far a place is from the box; 0 inside."""
        return hypot(max(self.x0 - x, 0, x - self.x1), max(self.y0 - y, 0, y - self.y1))


@dataclass(frozen=True)
class Leader:
    """A straight line from a marker to its name."""

    x0: float
    y0: float
    x1: float
    y1: float

    def distance(self, x: float, y: float) -> float:
        """Return how far a place is from the line."""
        dx, dy = self.x1 - self.x0, self.y1 - self.y0
        along = ((x - self.x0) * dx + (y - self.y0) * dy) / (dx * dx + dy * dy)
        along = min(1.0, max(0.0, along))
        return hypot(x - self.x0 - along * dx, y - self.y0 - along * dy)

    def crosses(self, box: Box) -> bool:
        """Say whether any part of the line lies in a box (Liang and Barsky, 1984)."""
        enters, leaves = 0.0, 1.0
        dx, dy = self.x1 - self.x0, self.y1 - self.y0
        for step, room in (
            (-dx, self.x0 - box.x0),
            (dx, box.x1 - self.x0),
            (-dy, self.y0 - box.y0),
            (dy, box.y1 - self.y0),
        ):
            if step == 0:
                if room < 0:
                    return False
            elif step < 0:
                enters = max(enters, room / step)
            else:
                leaves = min(leaves, room / step)
        return enters <= leaves

    def meets(self, other: Leader) -> bool:
        """Say whether two lines cross."""

        def side(line: Leader, x: float, y: float) -> float:
            return (line.x1 - line.x0) * (y - line.y0) - (line.y1 - line.y0) * (x - line.x0)

        apart = side(self, other.x0, other.y0) * side(self, other.x1, other.y1) > 0
        return not apart and side(other, self.x0, self.y0) * side(other, self.x1, self.y1) <= 0


@dataclass(frozen=True, kw_only=True)
class Name:
    """A name to be placed: the middle of its marker, and how large the text is.

    Names of the front come first: they are what the figure is about.
    """

    x: float
    y: float
    width: float
    height: float
    front: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a name stands.

    Attributes:
        box: of the text.
        right: whether it stands to the right of its marker, and begins there.
        leader: a line from the marker; None where the name stands beside it.
    """

    box: Box
    right: bool
    leader: Leader | None


def together(points: Sequence[tuple[float, float]], reach: float = MARKER) -> list[list[int]]:
    """Group points whose markers hide each other: no name can tell them apart.

    Args:
        points: in the order in which they get names.
        reach: how near the middle of a marker has to be to that of the group's first one.

    Returns:
        The places in `points`, group by group; most hold one.
    """
    groups: list[list[int]] = []
    for i, (x, y) in enumerate(points):
        for group in groups:
            first = points[group[0]]
            if hypot(x - first[0], y - first[1]) < reach:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def place(
    names: Sequence[Name], frame: Box, markers: Sequence[tuple[float, float]], lines: Sequence[Box]
) -> list[Place | None]:
    """Find a place for each name, or none: a missing name misleads nobody.

    Args:
        names: the most important first; those of the front take their places before all others.
        frame: where names may stand.
        markers: the middle of every marker.
        lines: whatever else is drawn, interval bars and lines of the front, as thin boxes.

    Returns:
        A place each; None where there is no room in which a name could mean its own marker only.
    """
    wishes = [_clear_wishes(name, frame, markers, lines) for name in names]
    fewest = sorted(range(len(names)), key=lambda i: (not names[i].front, len(wishes[i])))
    given = sorted(range(len(names)), key=lambda i: not names[i].front)
    tried = [_in_turn(order, wishes) for order in (fewest, given)]
    return max(tried, key=lambda found: _worth(found, names))


def _in_turn(order: Sequence[int], wishes: Sequence[Sequence[Place]]) -> list[Place | None]:
    """Give each name the best place that those before it have left, or could leave by moving."""
    found: list[Place | None] = [None] * len(wishes)
    for i in order:
        found[i] = next((wish for wish in wishes[i] if not _met(wish, found)), None)
    for i in order:
        if found[i] is None:
            _make_room(i, wishes, found)
    return found


def _worth(found: Sequence[Place | None], names: Sequence[Name]) -> tuple[int, int, int]:
    """Return what counts: names on the front, all names, and those that need no leader."""
    shown = [(name, done) for name, done in zip(names, found, strict=True) if done is not None]
    return sum(name.front for name, _ in shown), len(shown), sum(done.leader is None for _, done in shown)


def _clear_wishes(name: Name, frame: Box, markers: Sequence[tuple[float, float]], lines: Sequence[Box]) -> list[Place]:
    """Return the places of a name that keep off everything but other names, the best first."""
    reach = _FAR[-1] + name.width + name.height
    near = Box(name.x, name.y, name.x, name.y).grown(reach)
    bars = [line for line in lines if line.overlaps(near)]
    others = [(x, y) for x, y in markers if hypot(x - name.x, y - name.y) >= MARKER and near.distance(x, y) == 0]
    clear = [wish for wish in _wishes(name) if frame.holds(wish.box) and _is_clear(wish, name, others, bars)]
    # A leader across somebody's interval bar can be read, yet one across nothing is read at once.
    return sorted(clear, key=lambda wish: wish.leader is not None and _bars_crossed(wish.leader, name, bars))


def _met(wish: Place, found: Sequence[Place | None]) -> list[int]:
    """Return which of the names that have a place are in the way."""
    return [i for i, done in enumerate(found) if done is not None and _collide(wish, done)]


def _make_room(i: int, wishes: Sequence[Sequence[Place]], found: list[Place | None]) -> None:
    """Give a name a place that another one has, where that other can move."""
    for wish in wishes[i]:
        match _met(wish, found):
            case []:
                found[i] = wish
                return
            case [j]:
                rest = [wish if k == i else None if k == j else done for k, done in enumerate(found)]
                moved = next((other for other in wishes[j] if not _met(other, rest)), None)
                if moved is not None:
                    found[i], found[j] = wish, moved
                    return


def _wishes(name: Name) -> Iterator[Place]:
    """Yield the places of a name, the best first."""
    for dx, up in _NEAR:
        yield _at(name, dx, up * (name.height / 2 + _AIR + 0.6), led=False)
    for length in _FAR:
        for angle in _ANGLES:
            yield _at(name, length * cos(radians(angle)), length * sin(radians(angle)), led=True)


def _at(name: Name, dx: float, dy: float, *, led: bool) -> Place:
    x, y = name.x + dx, name.y + dy
    left = x if dx > 0 else x - name.width
    return Place(
        box=Box(left, y - name.height / 2, left + name.width, y + name.height / 2),
        right=dx > 0,
        leader=Leader(name.x, name.y, x, y) if led else None,
    )


def _is_clear(wish: Place, name: Name, others: Sequence[tuple[float, float]], lines: Sequence[Box]) -> bool:
    """Say whether a place keeps off markers and lines, and can mean no other marker."""
    box, leader = wish.box.grown(_AIR), wish.leader
    own = wish.box.distance(name.x, name.y)
    # What stands beside a marker is its name, so nobody else's may stand as near.
    far = _LED_OFF if leader else own + 2
    if own < MARKER or any(wish.box.distance(x, y) < far for x, y in others):
        return False
    if any(box.overlaps(line) for line in lines):
        return False
    # A marker that overlaps the name's own is left behind by a line that sets out the other way.
    return leader is None or all(
        leader.distance(x, y) >= min(MARKER + 1, 0.98 * hypot(x - name.x, y - name.y)) for x, y in others
    )


def _collide(wish: Place, done: Place) -> bool:
    """Say whether two names, or their leaders, come too near to each other."""
    if wish.box.grown(_AIR).overlaps(done.box):
        return True
    if done.leader and done.leader.crosses(wish.box.grown(_AIR)):
        return True
    if wish.leader is None:
        return False
    return wish.leader.crosses(done.box.grown(_AIR)) or bool(done.leader and wish.leader.meets(done.leader))


def _bars_crossed(leader: Leader, name: Name, lines: Sequence[Box]) -> bool:
    """Say whether a leader crosses any line but those that go through its own marker."""
    return any(leader.crosses(line) for line in lines if line.grown(0.1).distance(name.x, name.y) > 0)
