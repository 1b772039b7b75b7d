"""Where names stand."""

import pytest

from bench.render.plot.names import Box, Leader, Name, Place, _in_turn, _is_clear, place, together

FRAME = Box(0, 0, 200, 150)


def name(x, y, *, front=False, width=40):
    return Name(x=x, y=y, width=width, height=7, front=front)


def bar(x, y, by=8):
    return Box(x - 1.5, y - by, x + 1.5, y + by)


def test_a_name_stands_beside_a_marker_that_is_alone():
    (found,) = place([name(100, 75)], FRAME, [(100, 75)], [bar(100, 75)])
    assert found.leader is None
    assert found.right
    assert found.box.distance(100, 75) < 6
    assert not found.box.overlaps(bar(100, 75))


def test_at_the_right_end_it_stands_to_the_left():
    (found,) = place([name(190, 75)], FRAME, [(190, 75)], [bar(190, 75)])
    assert not found.right
    assert FRAME.holds(found.box)


def test_a_name_never_stands_as_near_to_another_marker_as_to_its_own():
    spots = [(100, 75), (108, 76), (100, 60), (104, 70)]
    bars = [bar(*spot) for spot in spots]
    for (x, y), found in zip(spots, place([name(*spot) for spot in spots], FRAME, spots, bars), strict=True):
        if found is not None:
            others = [found.box.distance(*spot) for spot in spots if spot != (x, y)]
            assert min(others) > (found.box.distance(x, y) if found.leader is None else 6)
            assert not any(found.box.overlaps(line) for line in bars)


def test_where_another_marker_is_nearer_the_name_goes_elsewhere():
    other = (107, 80)
    (found,) = place([name(100, 75)], FRAME, [(100, 75), other], [])
    assert found.box.distance(*other) > found.box.distance(100, 75) + 1


def test_a_leader_passes_by_other_markers_and_names_and_does_not_cross_another():
    spots = [(60 + 6 * i, 80 - 5 * (i % 2)) for i in range(6)]
    places = place([name(*spot) for spot in spots], FRAME, spots, [bar(*spot) for spot in spots])
    shown = [(spot, found) for spot, found in zip(spots, places, strict=True) if found]
    led = [(spot, found) for spot, found in shown if found.leader]
    assert len(shown) >= 4
    assert led
    for spot, found in led:
        assert (found.leader.x0, found.leader.y0) == spot
        assert all(found.leader.distance(*other) > 2.4 for other in spots if other != spot)
        for _, second in shown:
            if second is not found:
                assert not found.leader.crosses(second.box)
                assert not (second.leader and found.leader.meets(second.leader))


def test_names_do_not_overlap():
    spots = [(30 + 3 * i, 75 + (7 * i) % 11) for i in range(12)]
    boxes = [found.box for found in place([name(*spot) for spot in spots], FRAME, spots, []) if found]
    assert len(boxes) > 3
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_without_room_a_name_is_hidden_and_the_fronts_stays():
    narrow = Box(0, 0, 60, 12)
    spots = [(10, 5), (16, 5)]
    places = place([name(*spots[0]), name(*spots[1], front=True)], narrow, spots, [])
    assert places[0] is None
    assert places[1] is not None


def test_a_name_makes_room_where_it_can_stand_elsewhere():
    here, there = (Place(box=Box(x, 0, x + 10, 7), right=True, leader=None) for x in (0, 50))
    assert _in_turn([0, 1], [[here, there], [here]]) == [there, here]


def test_markers_that_hide_each_other_share_a_name():
    assert together([(0, 0), (50, 50), (1, 1), (4, 4)]) == [[0, 2], [1], [3]]


@pytest.mark.parametrize(("y", "crossed"), [(10, True), (30, False)])
def test_a_line_crosses_a_box(y, crossed):
    assert Leader(0, 0, 20, 20).crosses(Box(8, y - 2, 12, y + 2)) is crossed
    assert Leader(10, 0, 10, 20).crosses(Box(8, y - 2, 12, y + 2)) is crossed


def test_lines_meet():
    assert Leader(0, 0, 10, 10).meets(Leader(0, 10, 10, 0))
    assert not Leader(0, 0, 10, 10).meets(Leader(0, 1, 10, 11))


@pytest.mark.parametrize(("other", "clear"), [((80, 75), False), ((80, 90), True), ((46, 75), True), ((54, 75), False)])
def test_a_leader_keeps_off_other_markers_and_sets_out_away_from_one_that_overlaps(other, clear):
    led = Place(box=Box(110, 71, 150, 79), right=True, leader=Leader(50, 75, 110, 75))
    assert _is_clear(led, name(50, 75), [other], []) is clear
