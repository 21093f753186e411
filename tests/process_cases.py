"""What processor/test_other_processes.py runs as a program: `python process_cases.py CASE WEIGHTS GALLERY`.

The embedder computes with two threads before the other process starts; the last line printed is True if that one finds the same.
"""

import multiprocessing
import sys
import threading

import numpy as np
import torch

from vitreid import Embedder, Gallery

IMAGES = list(np.random.default_rng(0).integers(0, 256, (8, 900, 500, 3), dtype=np.uint8))


def found(gallery, images=IMAGES):
    """The ids and distances of each image's neighbours: embeds, and searches."""
    results = gallery.search(images, 3)
    return [result.ids.tolist() for result in results], [result.distances.round(5).tolist() for result in results]


def answer(queue, gallery, index=None):
    queue.put((found(gallery), gallery.search(np.ones((1, gallery.info.dimension)), 2, index=index)[0].ids.tolist()))


def in_process(method, gallery, index=None):
    """What a process started by `method` finds."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=answer, args=(queue, gallery, index))
    process.start()
    try:
        return queue.get(timeout=60)
    finally:
        process.kill()
        process.join()


def both_ways(method, gallery, index=None):
    """Whether the process finds what this one finds."""
    here = multiprocessing.get_context("fork").SimpleQueue()
    answer(here, gallery, index)
    return in_process(method, gallery, index) == here.get()


def while_another_thread_embeds(gallery):
    """A lock that another thread holds during `fork` is never released in the child."""
    is_held, may_go = threading.Event(), threading.Event()

    def hold():
        with gallery.embedder._lock, gallery.lock:
            is_held.set()
            may_go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait(10)
    try:
        return in_process("fork", gallery)[0] is not None
    finally:
        may_go.set()
        thread.join()


class Embedded(torch.utils.data.Dataset):
    """Images whose embeddings are computed in the workers of a DataLoader."""

    def __init__(self, gallery):
        self.gallery = gallery

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, place):
        return self.gallery.embedder(IMAGES[place])[0]


def in_workers(method, gallery):
    loader = torch.utils.data.DataLoader(
        Embedded(gallery), 4, num_workers=1, multiprocessing_context=method, timeout=60
    )
    return np.allclose(np.concatenate([batch.numpy() for batch in loader]), gallery.embedder(IMAGES), atol=1e-5)


def by_joblib(gallery):
    from joblib import Parallel, delayed

    there = Parallel(n_jobs=2, backend="loky")(delayed(found)(gallery, IMAGES[half:][:4]) for half in (0, 4))
    return there == [found(gallery, IMAGES[half:][:4]) for half in (0, 4)]


def by_dask(gallery):
    import dask

    return dask.compute(dask.delayed(found)(gallery), scheduler="processes", num_workers=1)[0] == found(gallery)


def by_ray(gallery):
    import ray

    ray.init(num_cpus=1, include_dashboard=False)
    return ray.get(ray.remote(found).remote(gallery)) == found(gallery)


CASES = {
    "fork": lambda gallery: both_ways("fork", gallery),
    "spawn": lambda gallery: both_ways("spawn", gallery),
    "fork, faiss": lambda gallery: both_ways("fork", gallery, "faiss-flat"),
    "fork, other thread": while_another_thread_embeds,
    "DataLoader, fork": lambda gallery: in_workers("fork", gallery),
    "DataLoader, spawn": lambda gallery: in_workers("spawn", gallery),
    "joblib": by_joblib,
    "dask": by_dask,
    "ray": by_ray,
}

if __name__ == "__main__":
    case, weights, folder = sys.argv[1:]
    torch.set_num_threads(2)
    embedder = Embedder(weights, "cpu", "fp32", 8)  # bf16 rounds otherwise in batches of another size
    print(CASES[case](Gallery.open(folder, embedder)))
