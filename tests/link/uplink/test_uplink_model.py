"""Whatever a network that loses, reorders and repeats does, the city has each event once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.errors import LinkError
from agent.base.events import person_of
from agent.base.values import Ack, Nack
from agent.link.uplink.uplink import Totals, Uplink, UplinkLimits
from agent.protocol.items import decode_event
from agent.protocol.messages import decode_ack, encode_ack, unpack
from tests.events import EPOCH, OTHER_EPOCH
from tests.link.uplink.outbox import MemoryOutbox

LIMITS = UplinkLimits(batch_events=7, batch_seconds=2.0, ack_timeout_seconds=30.0)
POISON = 11  # every eleventh event is one this city refuses

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("time"), st.sampled_from([100, 2_000, 31_000])),
        st.tuples(st.sampled_from(["up", "down"]), st.integers(0, 50)),  # deliver one message
        st.tuples(st.sampled_from(["up again", "down again"]), st.integers(0, 50)),
        st.tuples(st.sampled_from(["lose up", "lose down"]), st.integers(0, 50)),
        st.tuples(st.sampled_from(["reconnect", "nonsense", "refuse"]), st.just(0)),
    ),
    max_size=80,
)


class ModelCity:
    """Commits by identity, and answers with all it knows of the epoch."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], str] = {}  # identity -> person
        self.refused: set[tuple[str, int]] = set()

    def take(self, payload: bytes) -> bytes:
        events = [decode_event(item) for item in unpack(payload)]
        epoch = events[0].epoch
        for event in events:
            key = (event.epoch, event.seq)
            if event.seq % POISON == 0:
                self.refused.add(key)
            else:
                person = person_of(event.event)
                assert self.rows.setdefault(key, person) == person
        seen = {seq for found, seq in (*self.rows, *self.refused) if found == epoch}
        upto = 0
        while upto + 1 in seen:
            upto += 1
        have = tuple((s, s) for s in sorted(seen) if s > upto and (epoch, s) in self.rows)
        nacks = tuple(Nack(s, "poison") for e, s in sorted(self.refused) if e == epoch)
        return encode_ack(Ack(epoch, upto, have, nacks, 0))


class World:
    """A device and a city with two lossy queues between them."""

    def __init__(self) -> None:
        self.outbox = MemoryOutbox(OTHER_EPOCH, EPOCH)
        self.outbox.fill(9, epoch=OTHER_EPOCH)
        self.city = ModelCity()
        self.totals = Totals()
        self.uplink = Uplink(self.outbox, self._publish, LIMITS, self.totals)
        self.rising: list[bytes] = []
        self.falling: list[bytes] = []
        self.now_ms = 0
        self.refusing = False
        self.uplink.connected()

    def _publish(self, payload: bytes) -> None:
        if self.refusing:
            raise LinkError("the broker is gone")
        self.rising.append(payload)

    def turn(self) -> None:
        try:
            self.uplink.turn(self.now_ms)
        except LinkError:
            self.reconnect()
        assert self.uplink.in_flight <= LIMITS.inflight_batches

    def reconnect(self) -> None:
        self.refusing = False
        self.uplink.disconnected()
        self.falling.clear()  # a clean session keeps nothing; what rose may still arrive
        self.uplink.connected()

    def step(self, action: str, number: int) -> None:
        if action == "append":
            self.outbox.fill(number)
        elif action == "time":
            self.now_ms += number
        elif action in ("up", "up again", "lose up") and self.rising:
            index = number % len(self.rising)
            payload = self.rising[index] if action == "up again" else self.rising.pop(index)
            if action != "lose up":
                self.falling.append(self.city.take(payload))
        elif action in ("down", "down again", "lose down") and self.falling:
            index = number % len(self.falling)
            payload = self.falling[index] if action == "down again" else self.falling.pop(index)
            if action != "lose down":
                assert self.uplink.receive_ack(payload, self.now_ms)
        elif action == "reconnect":
            self.reconnect()
        elif action == "nonsense":
            assert not self.uplink.receive_ack(encode_ack(Ack(EPOCH, 10**6, (), (), 0)), 0)
        elif action == "refuse":
            self.refusing = True
        self.turn()
        self.nothing_is_forgotten()

    def nothing_is_forgotten(self) -> None:
        """What the device no longer wants to send, the city has, or has refused."""
        for key, state in self.outbox.states.items():
            if state == "acked":
                assert key in self.city.rows
            elif state != "pending":
                assert key in self.city.refused

    def heal(self) -> None:
        """From now on the network works."""
        self.refusing = False
        for _ in range(2_000):
            self.now_ms += 2_000
            self.turn()
            while self.rising:
                self.falling.append(self.city.take(self.rising.pop(0)))
            while self.falling:
                assert decode_ack(self.falling[0])
                self.uplink.receive_ack(self.falling.pop(0), self.now_ms)
            if self.uplink.pending() == 0 and self.uplink.in_flight == 0:
                return
        raise AssertionError("the backlog never drained")


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_each_event_reaches_the_city_once_or_is_refused_by_it(
    steps: list[tuple[str, int]],
) -> None:
    world = World()
    for action, number in steps:
        world.step(action, number)
    world.heal()
    world.nothing_is_forgotten()
    made = set(world.outbox.states)
    assert set(world.city.rows) | world.city.refused == made
    assert world.city.refused == {key for key in made if key[1] % POISON == 0}
    assert {k for k, state in world.outbox.states.items() if state == "poison"} == (
        world.city.refused
    )
