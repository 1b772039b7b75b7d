"""Whom an attack asks: mostly the subject's twin, sometimes another network that shows the way."""

from __future__ import annotations

from typing import NamedTuple

from bench.attack.suites import FOREIGN
from bench.model import Classifier, Subject


class Guide(NamedTuple):
    """A network that answers an attack's questions.

    Attributes:
        ask: the network.
        foreign: whether it is not the subject: what fools it proves nothing, and what does not may fool the subject, so
            that the judge is to see every point.
    """

    ask: Classifier
    foreign: bool


def guide(attack: str, subject: Subject) -> Guide:
    """Return whom the attack asks.

    Raises:
        ValueError: the surrogate of a subject that has none.
    """
    networks: dict[str, Classifier | None] = {
        "transfer": subject.parent,
        "surrogate": subject.surrogate,
        "square-deployed": subject.deployed,
    }
    network = networks.get(attack, subject.twin)
    if network is None:
        raise ValueError(f"expected a subject with a surrogate for the attack '{attack}'")
    return Guide(ask=network, foreign=attack in FOREIGN)
