"""How well features tell classes apart before anything is trained on them: the vote of nearest neighbours."""

import torch
from torch import Tensor

REFERENCES = 0.66  # of the samples; the rest asks. The released code of ExSSNeT
CHUNK = 1024  # queries whose distances to all references are held at once


def neighbour_accuracy(features: Tensor, labels: Tensor, num_neighbours: int) -> float:
    """Share of the last third of samples whose Euclidean neighbours among the others mostly have their class.

    Args:
        features: (N, D).
        labels: (N,).
        num_neighbours: of each, or all references where there are fewer; on a tie the smaller class wins.
    """
    num = int(REFERENCES * len(features))
    references, queries = features[:num], features[num:]
    votes = []
    for chunk in queries.split(CHUNK):
        nearest = torch.cdist(chunk, references).topk(min(num_neighbours, num), dim=1, largest=False).indices
        votes.append(torch.nn.functional.one_hot(labels[:num][nearest], int(labels.max()) + 1).sum(dim=1))
    return float((torch.cat(votes).argmax(dim=1) == labels[num:]).float().mean())
