"""Searches for numbers in [0, 1] that make a fitness small, by asking for candidates and being told how they did.

Hansen and Ostermeier, "Completely Derandomized Self-Adaptation in Evolution Strategies", 2001 (`cmaes`, by the library
of that name). A search follows from its seed and from what it was told, so it is repeated rather than saved.
n numbers of a candidate, P candidates of a round.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from cmaes import CMA

MEAN, SPREAD = 0.5, 0.3  # of CMA-ES's first round
RIVALS = 10  # of a tournament
LEVELS = (0.0, 1.0)  # of the grid, beside the middle


class Search(Protocol):
    def ask(self) -> np.ndarray:
        """(P, n), the candidates of the next round."""

    def tell(self, candidates: np.ndarray, fitness: Sequence[float]) -> None:
        """How each of them did; what is not finite is worse than all that is."""


class CMAES:
    """A normal distribution that follows the better half of its candidates; what leaves [0, 1] is drawn again."""

    def __init__(self, num: int, population: int, seed: int) -> None:
        bounds = np.tile([0.0, 1.0], (num, 1))
        mean = np.full(num, MEAN)
        with np.errstate(divide="ignore"):  # of populations below four, which are led by their best alone
            self.inner = CMA(mean=mean, sigma=SPREAD, bounds=bounds, seed=seed, population_size=population)

    def ask(self) -> np.ndarray:
        return np.stack([self.inner.ask() for _ in range(self.inner.population_size)])

    def tell(self, candidates: np.ndarray, fitness: Sequence[float]) -> None:
        self.inner.tell(list(zip(candidates, ranked(fitness), strict=True)))


class Tournament:
    """A population; in each tournament the best rival, with one number drawn anew, takes the place of the worst."""

    def __init__(self, num: int, population: int, seed: int) -> None:
        self.num, self.size, self.draws = num, population, np.random.default_rng(seed)
        self.members: list[np.ndarray] = []
        self.fitness: list[float] = []
        self.losers: list[int] = []

    def ask(self) -> np.ndarray:
        if not self.members:
            return self.draws.uniform(size=(self.size, self.num))
        self.losers, children = [], []
        for _ in range(self.size):
            rivals = self.draws.permutation(self.size)[:RIVALS]
            rivals = sorted(rivals, key=lambda member: self.fitness[member])
            child = self.members[rivals[0]].copy()
            child[self.draws.integers(self.num)] = self.draws.uniform()
            self.losers.append(int(rivals[-1]))
            children.append(child)
        return np.stack(children)

    def tell(self, candidates: np.ndarray, fitness: Sequence[float]) -> None:
        if not self.members:
            self.members, self.fitness = list(candidates), ranked(fitness)
            return
        for place, child, value in zip(self.losers, candidates, ranked(fitness), strict=True):
            self.members[place], self.fitness[place] = child, value


class RandomSearch:
    """Candidates drawn evenly, whatever was told."""

    def __init__(self, num: int, population: int, seed: int) -> None:
        self.shape, self.draws = (population, num), np.random.default_rng(seed)

    def ask(self) -> np.ndarray:
        return self.draws.uniform(size=self.shape)

    def tell(self, candidates: np.ndarray, fitness: Sequence[float]) -> None:
        pass


class Grid:
    """One number after the other at both ends, all others in the middle; a whole grid of n numbers would be endless."""

    def __init__(self, num: int, population: int, seed: int) -> None:
        self.num, self.size, self.place = num, population, 0

    def ask(self) -> np.ndarray:
        points = np.full((self.size, self.num), MEAN)
        for point in points:
            number, level = divmod(self.place, len(LEVELS))
            point[number % self.num] = LEVELS[level]
            self.place += 1
        return points

    def tell(self, candidates: np.ndarray, fitness: Sequence[float]) -> None:
        pass


SEARCHES: dict[str, type] = {"cmaes": CMAES, "tournament": Tournament, "random": RandomSearch, "grid": Grid}


def start_search(name: str, num: int, population: int, seed: int) -> Search:
    """A search by its name.

    Raises:
        ValueError: there is no such search, or its population is smaller than two.
    """
    if name not in SEARCHES:
        raise ValueError(f"search is {name!r}; available: {list(SEARCHES)}")
    if population < 2:
        raise ValueError(
            f"population is {population}; expected two candidates or more, of which the better is followed"
        )
    return SEARCHES[name](num, population, seed)


def ranked(fitness: Sequence[float]) -> list[float]:
    """What is not finite as one more than the largest that is."""
    finite = [value for value in fitness if np.isfinite(value)]
    return [value if np.isfinite(value) else max(finite, default=0.0) + 1.0 for value in fitness]
