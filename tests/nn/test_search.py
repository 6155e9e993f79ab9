"""Searches go where the fitness is small, and repeat themselves from a seed."""

import numpy as np
import pytest

from pipeline.nn.search import SEARCHES, ranked, start_search

TARGET = np.linspace(0.1, 0.9, 40)


def sphere(name, rounds, population=15):
    search, means = start_search(name, 40, population, 0), []
    for _ in range(rounds):
        points = search.ask()
        assert points.shape == (population, 40) and points.min() >= 0 and points.max() <= 1
        fitness = ((points - TARGET) ** 2).sum(1).tolist()
        search.tell(points, fitness)
        means.append(np.mean(fitness))
    return means


def test_cmaes_solves_a_sphere_of_forty_numbers():
    assert sphere("cmaes", 250)[-1] < 1e-3


def test_tournaments_get_better_and_draws_do_not():
    assert np.mean(sphere("tournament", 200)[-5:]) < 0.5 * sphere("tournament", 1)[0]
    assert np.mean(sphere("random", 30)[-5:]) == pytest.approx(np.mean(sphere("random", 30)[:5]), rel=0.15)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_follows_from_its_seed(name):
    assert sphere(name, 5) == sphere(name, 5)
    others = [start_search(name, 40, 4, seed).ask() for seed in (0, 1)]
    assert np.array_equal(*others) == (name == "grid")


def test_a_grid_moves_one_number_at_a_time():
    points = start_search("grid", 3, 8, 0).ask()
    assert points[:2].tolist() == [[0.0, 0.5, 0.5], [1.0, 0.5, 0.5]] and points[6].tolist() == points[0].tolist()


def test_what_is_not_finite_is_the_worst():
    assert ranked([2.0, np.inf, np.nan, 1.0]) == [2.0, 3.0, 3.0, 1.0]
    with pytest.raises(ValueError, match=r"available: .*'cmaes'"):
        start_search("hill", 3, 4, 0)
