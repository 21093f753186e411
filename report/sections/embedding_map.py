"""A map of embeddings: crops with similar embeddings lie close together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch.nn.functional import normalize

from ...common.text import short_names
from ..page.charts import COLOURS, Chart, add_legend
from ..page.components import Charts, Section, Text
from ..run_contents import EvaluatedSet
from .camera_grid import CHARACTER, fitted_labels

MOST_PEOPLE, MOST_CROPS = 12, 500
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">", "p", "h")
FEWEST = 8
WIDTH, ENTRY = 4.4, 0.3  # inches: of the chart; of an entry of the legend without its name


class Sample(NamedTuple):
    """Crops on the map: embeddings (N, D), identities (N,) and cameras (N,)."""

    embeddings: np.ndarray
    pids: np.ndarray
    camids: np.ndarray


def map_section(test: EvaluatedSet, method: str = "tsne", seed: int = 0) -> Section | None:
    """Return the same map twice, coloured by identity and by camera; None if there are fewer than 8 crops.

    Args:
        method: "tsne" (van der Maaten & Hinton, JMLR 2008) or "pca".
        seed: of the draw of people and of t-SNE.
    """
    sample = draw_people(test, seed)
    if len(sample.pids) < FEWEST:
        return None
    places, about = METHODS[method](sample.embeddings, seed)
    cameras = short_names(test.features.camera_names)
    charts = [
        _map_chart("map-people", "by person: one colour and shape each", places, sample.pids, test.features.person),
        _map_chart("map-cameras", "by camera", places, sample.camids, lambda camid: cameras[camid]),
    ]
    reading = (
        "Good embeddings form one cluster per person on the first map and no clusters per camera on the second. Only nearest "
        "neighbours carry meaning; the axes and the distances between clusters do not."
    )
    people = len(np.unique(sample.pids))
    size = Text(f"{len(sample.pids)} crops of {people} people, drawn at random with seed {seed}. {about}")
    return Section("map", "Map of embeddings", reading, [Charts(charts), size])


def draw_people(test: EvaluatedSet, seed: int, most_people: int = MOST_PEOPLE, most_crops: int = MOST_CROPS) -> Sample:
    """Return the crops of random people with a valid query, at most `most_crops` of them, drawn at random."""
    rng = np.random.default_rng(seed)
    features = test.features
    known = np.unique(features.q_pids[test.result.query_index])
    people = rng.choice(known, min(most_people, len(known)), replace=False)
    pids = np.concatenate([features.q_pids, features.g_pids])
    camids = np.concatenate([features.q_camids, features.g_camids])
    chosen = np.flatnonzero(np.isin(pids, people))
    if len(chosen) > most_crops:
        chosen = np.sort(rng.choice(chosen, most_crops, replace=False))
    num_queries = len(features.q_pids)
    queries, others = chosen[chosen < num_queries], chosen[chosen >= num_queries] - num_queries
    parts = (features.query[queries], features.gallery[others])
    embeddings = np.concatenate([normalize(part.float()).cpu().numpy() for part in parts])
    return Sample(embeddings, pids[chosen], camids[chosen])


def tsne(embeddings: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Return places (N, 2) by t-SNE, which keeps neighbours together, and a sentence on the method."""
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(embeddings)
    return places, f"Method: t-SNE, perplexity {perplexity:.0f}."


def pca(embeddings: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Return places (N, 2) on the two directions of largest variance, and a sentence on the method."""
    found = PCA(2, random_state=seed).fit(embeddings)
    share = float(found.explained_variance_ratio_.sum())
    return found.transform(embeddings), f"Method: PCA; the two directions explain {100 * share:.0f}% of the variance."


METHODS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, str]]] = {"tsne": tsne, "pca": pca}


def _map_chart(name: str, title: str, places: np.ndarray, labels: np.ndarray, name_of: Callable[[int], str]) -> Chart:
    kinds = np.unique(labels).tolist()
    names = fitted_labels([name_of(kind) for kind in kinds])
    columns = min(4, len(kinds), max(1, int(WIDTH / (ENTRY + CHARACTER * max(map(len, names))))))

    def draw(axes: Axes) -> None:
        drawn: dict[str, Artist] = {}
        for number, kind in enumerate(kinds):
            own = places[labels == kind]
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            look: Any = {"s": 16, "color": colour, "marker": marker, "linewidths": 0, "alpha": 0.85}
            drawn[names[number]] = axes.scatter(own[:, 0], own[:, 1], **look)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(True)
        place: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01)}
        add_legend(axes, drawn, ncols=columns, handletextpad=0.1, columnspacing=0.8, **place)

    alt = f"Map of {len(labels)} crops coloured {title}; {nearest_share(places, labels):.0%} have a nearest neighbour of the same kind"
    height = 3.4 + 0.2 * math.ceil(len(kinds) / columns)
    return Chart(name, f"Coloured {title}", alt, draw, (WIDTH, height))


def nearest_share(places: Sequence[Sequence[float]] | np.ndarray, labels: np.ndarray) -> float:
    """Return the share of points (N, 2) that have the same label (N,) as their nearest other point.

    >>> nearest_share(np.array([[0, 0], [0, 1], [5, 5], [0, 1.5]]), np.array([1, 1, 2, 2]))
    0.5
    """
    points = np.asarray(places, float)
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.fill_diagonal(squared, np.inf)
    return float((labels[squared.argmin(1)] == labels).mean())
