"""Memory that batches use again: never while somebody holds it, always when nobody does, and not without bound."""

import gc
import threading

import numpy as np
import pytest
import torch

from vitreid.datasets.loading.buffer_pool import BufferPool


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_tensor_of_it_is_gone():
    buffers = BufferPool()
    lent = buffers.empty((2, 3), np.float32)
    place = address(lent)
    tensor = torch.from_numpy(lent)
    part = tensor[1:]
    del lent, tensor
    other = buffers.empty((2, 3), np.float32)
    assert address(other) != place, "a part of the tensor is still in use"
    del part
    gc.collect()
    assert address(buffers.empty((2, 3), np.float32)) == place


@pytest.mark.parametrize(("shape", "dtype"), [((3, 2), np.float32), ((2, 3), np.uint8)])
def test_memory_is_used_again_for_the_same_shape_and_type_only(shape, dtype):
    buffers = BufferPool()
    buffers.empty((2, 3), np.float32)  # comes back at once
    other = buffers.empty(shape, dtype)
    assert other.shape == shape and other.dtype == dtype


def test_what_is_kept_is_bounded():
    buffers = BufferPool(most_bytes=100)
    lent = [buffers.empty((40,), np.uint8) for _ in range(5)]
    lent.clear()
    gc.collect()
    assert sum(array.nbytes for array in buffers._free) == 80


def test_threads_never_get_the_same_memory_at_once():
    buffers, wrong = BufferPool(), []

    def work(number):
        for _ in range(300):
            tensor = torch.from_numpy(buffers.empty((64,), np.float32)).fill_(number)
            if not bool((tensor == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
