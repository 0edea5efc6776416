"""What rank 0 tells the other ranks, so that they train what it trains. It decides alone, and says what is next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from impasto import events
from impasto.data.dealing import enough
from impasto.engine import sharing
from impasto.engine.prepare import Tell
from impasto.engine.world import World
from impasto.events import Event

if TYPE_CHECKING:
    from impasto.engine.session import Session


class Lead:
    """A fleet that several ranks train."""

    def __init__(self, world: World, order: Sequence[Session]) -> None:
        """`order`: all runs, as every rank was given them."""
        self.world = world
        self._order = list(order)
        self._halvings: dict[Session, int] = {}
        self._begun = False

    def plan(self, sessions: Sequence[Session], totals: dict[str, int]) -> None:
        """The runs are planned: let the others plan them too. Raises ConfigError where they cannot share them."""
        for session in sessions:
            enough(session.feed.plan, self.world.size)
        runs = [self._order.index(each) for each in sessions]
        self.world.tell(do="fleet", runs=runs, totals=[totals[str(each.folder.path)] for each in sessions])
        self._begun = True
        sharing.same_plan(self.world, [each.feed for each in sessions], [each.card for each in sessions])
        for session in sessions:
            session.tell(events.Noted(text=f"{self.world.size} ranks share every step"))

    def filled(self, sessions: Sequence[Session]) -> None:
        """Encode what the store lacks, together."""
        sharing.filled(self.world, [(each.source, self._attentive(each.tell)) for each in sessions])

    def admitted(self, sessions: Sequence[Session]) -> None:
        """The members are as they were saved: so shall those of the others be."""
        for session in sessions:
            sharing.give(self.world, session.member)
            self._halvings[session] = session.member.halvings

    def step(self, sessions: Sequence[Session]) -> None:
        """These train the next step. A member that was changed between two steps is changed everywhere."""
        for session in sessions:
            if session.member.halvings != self._halvings[session]:
                self.world.tell(do="change", run=self._order.index(session))
                self.admitted([session])
        self.world.tell(do="step", runs=[self._order.index(each) for each in sessions])

    def done(self) -> None:
        """The fleet has come to its end."""
        if self._begun:
            self.world.tell(do="done")

    def _attentive(self, tell: Tell) -> Callable[[Event], None]:
        """Looks whether the others are still there, whenever there is something to tell."""

        def telling(event: Event) -> None:
            self.world.check()
            tell(event)

        return telling
