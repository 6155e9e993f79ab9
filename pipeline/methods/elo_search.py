"""ELo's search: small networks learn by many candidates of loss weights, and those that group videos best lead on.

Piergiovanni, Angelova and Ryoo, CVPR 2020, arXiv:2002.12177. A round asks for candidates; each trains a proxy from the
same first weights, embeds videos by its RGB network and is judged by how far the sizes of their k-means clusters are
from Zipf's law. Each candidate is a phase, so an interrupted search repeats one of them. At the end the best weights
train the proxy once more: that is what is published, and `elo` takes its weights.

Departures: the paper's population, proxy, number of clusters and exponent are not known. Labels are looked at for the
record alone, never by the search: a second k-means with as many clusters as classes is matched with them on half of the
videos and scored by the mean recall of classes on the other half.
"""

import copy
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config import ConfigError
from pipeline.methods.base import Context, Open, Phase
from pipeline.methods.elo import TASKS, TERMS, ELo, NetworkOptions
from pipeline.nn.clusters import assignment, cluster_shares, divergence, effective_rank, fit_clusters, unit
from pipeline.nn.search import start_search


@dataclass(frozen=True, kw_only=True)
class ELoSearchOptions(NetworkOptions):
    """How weights are searched for; `config/recipes/elo_search.yaml` gives the numbers with their sources.

    search: `cmaes`, `tournament`, `random` or `grid`.
    num_rounds, population: rounds, and candidates of each.
    tasks_first: whether the first candidates of the first round weigh one task alone each.
    num_samples: training videos that are clustered.
    num_clusters, zipf_exponent: k and s of the fitness. restarts: of k-means.
    unit_features: whether features are brought to length one before.
    """

    search: str
    num_rounds: int
    population: int
    tasks_first: bool
    num_samples: int
    num_clusters: int
    zipf_exponent: float
    restarts: int
    unit_features: bool


def one_task_each() -> np.ndarray:
    """(tasks, weights): 1 for the losses of one task, 0 for all others."""
    return np.array([[float(term.task == task) for term in TERMS] for task in TASKS])


class ELoSearch(ELo):
    Options = ELoSearchOptions

    def __init__(self, encoder: nn.Module, options: ELoSearchOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        start_search(options.search, len(TERMS), options.population, 0)  # refuses what cannot be early
        self.start, self.num_classes = copy.deepcopy(self.state_dict()), context.num_classes
        self.seed = int(torch.randint(2**31, ()))

    def first_weights(self, context: Context) -> Tensor:
        return torch.ones(len(TERMS))

    def phases(self, settings: Mapping[str, Any], open_samples: Open) -> Generator[Phase, Any, None]:
        options = self.options
        search = start_search(options.search, len(TERMS), options.population, self.seed)
        best, least = np.ones(len(TERMS)), np.inf
        for number in range(options.num_rounds):
            candidates, fitness = search.ask(), []
            if number == 0 and options.tasks_first:
                alone = one_task_each()[: len(candidates)]
                candidates[: len(alone)] = alone
            for place, candidate in enumerate(candidates):
                result = yield self._phase(f"round-{number}-{place}", candidate, settings, open_samples)
                fitness.append(np.inf if result["fitness"] is None else result["fitness"])
                if fitness[-1] < least:
                    best, least = candidate, fitness[-1]
            if not np.isfinite(fitness).any():
                told = "; ".join(str(np.round(candidate, 2).tolist()) for candidate in candidates)
                raise ConfigError(
                    f"no candidate of round {number + 1} has a finite fitness, so there is none to follow: {told}. "
                    "Lower train.base_lr or set train.clip_norm"
                )
            search.tell(candidates, fitness)
        yield self._phase("best", best, settings, open_samples)

    def _phase(self, name: str, weights: np.ndarray, settings: Mapping[str, Any], open_samples: Open) -> Phase:
        begin = partial(self.restart, weights, settings, open_samples)
        return Phase(name=name, settings=settings, begin=begin, end=partial(self.judge, settings, open_samples))

    def restart(self, weights: np.ndarray, settings: Mapping[str, Any], open_samples: Open) -> None:
        """A fresh proxy, the same for each candidate."""
        self.load_state_dict(self.start)
        self.set_weights(torch.from_numpy(weights))
        self.calibrate(settings, open_samples)

    @torch.no_grad()
    def judge(self, settings: Mapping[str, Any], open_samples: Open) -> dict[str, Any]:
        """How good the RGB network's features are.

        Returns:
            weights by name; `fitness`, the KL divergence in nats (lower is better), None where features are not finite;
            `other_fitness`, with features of length one where that is not what was asked, and the other way round;
            `effective_rank`; `shares` of the clusters, largest first; `labelled`, see above, between 0 and 1.
        """
        weights = {term.name: round(weight, 6) for term, weight in zip(TERMS, self.weights.tolist(), strict=True)}
        features, labels = self._embedded(open_samples(settings))
        nothing = dict.fromkeys(("fitness", "other_fitness", "effective_rank", "shares", "labelled"))
        if not np.isfinite(features).all():
            return {"weights": weights, **nothing}
        options, both = self.options, (features, unit(features))
        own, other = both[::-1] if options.unit_features else both
        shares, others = (
            cluster_shares(part, fit_clusters(part, options.num_clusters, options.restarts, 0).cluster_centers_)
            for part in (own, other)
        )
        return {
            "weights": weights,
            "fitness": divergence(shares, options.zipf_exponent),
            "other_fitness": divergence(others, options.zipf_exponent),
            "effective_rank": effective_rank(features),
            "shares": np.sort(shares)[::-1].round(6).tolist(),
            "labelled": self._labelled(own, labels),
        }

    def _embedded(self, samples: Any) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, D) and labels (N,) of the first training videos."""
        number = min(self.options.num_samples, len(samples))
        self.encoder.eval()
        features, labels = [], []
        for first in range(0, number, 128):
            batch = samples.__getitems__([(0, index) for index in range(first, min(first + 128, number))])
            video = batch["video"].to(self.weights.device)
            features.append(self.encoder.forward_features(video)[:, 0].float().cpu())
            labels.append(batch["labels"])
        return torch.cat(features).numpy(), torch.cat(labels).numpy()

    def _labelled(self, features: np.ndarray, labels: np.ndarray) -> float:
        half = len(features) // 2
        classes = max(self.num_classes, int(labels.max()) + 1)
        clusters = fit_clusters(features[:half], min(classes, half), self.options.restarts, 0)
        named = assignment(clusters.labels_, labels[:half], clusters.n_clusters, classes)
        guesses, rest = named[clusters.predict(features[half:].astype(np.float64))], labels[half:]
        return float(np.mean([(guesses[rest == label] == label).mean() for label in np.unique(rest)]))
