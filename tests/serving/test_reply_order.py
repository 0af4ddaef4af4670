"""The order of replies, with ends in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yais.serving.reply_order import Place, ReplyOrder


class Numbered(Place[bytes]):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@given(st.data(), st.integers(1, 30))
def test_replies_go_in_order_and_as_soon_as_they_may(data: st.DataObject, count: int) -> None:
    order: ReplyOrder[Numbered] = ReplyOrder()
    begun: list[Numbered] = []
    open_places: list[Numbered] = []
    gone: list[int] = []
    ended: set[int] = set()
    while len(ended) < count:
        if len(begun) < count and (not open_places or data.draw(st.booleans())):
            place = Numbered(len(begun))
            begun.append(place)
            open_places.append(place)
            order.begin(place)
            continue
        place = open_places.pop(data.draw(st.integers(0, len(open_places) - 1)))
        ended.add(place.number)
        reply = b"" if place.number % 3 == 0 else b"%d" % place.number  # an empty one is one
        ready = order.end(place, reply)
        gone += [each.number for each in ready]
        assert all(each.reply in {b"", b"%d" % each.number} for each in ready)
        # Exactly those that nobody before them holds up.
        first_open = min((each.number for each in open_places), default=len(begun))
        assert gone == list(range(first_open))
    assert gone == list(range(count))


def test_its_repr_reads_as_a_status_line() -> None:
    order: ReplyOrder[Numbered] = ReplyOrder()
    places = [Numbered(0), Numbered(1)]
    for place in places:
        order.begin(place)
    order.end(places[1], b"reply")
    assert repr(order) == "<ReplyOrder: 2 places, 1 with a reply>"
