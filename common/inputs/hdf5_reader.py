"""Prints the cells of a file of MATLAB's version 7.3, which is HDF5: a script for another process, see `hdf5_file`.

For each array in a cell, a line of JSON [variable, [place in each cell array on the way], data type, shape], then its bytes.
"""

import json
import sys

MEMORY, SECONDS, ERRORS = 2**32, 3600, 2**20  # bytes, seconds of a core, bytes that it may write into a file
DEPTH = 3  # cells in cells in cells
NO_PACKAGE = 3  # exit status


def set_limits():
    """Set the limits of memory and time, or leave those that are lower; this process writes into a pipe only."""
    try:
        import resource  # POSIX only
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, ERRORS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def values(dataset, most):
    """Return a dataset's values, transposed: MATLAB stores columns first. Not those that lie in other files."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{dataset.name} lies in other files")
    if dataset.nbytes > most:
        raise ValueError(f"{dataset.name} has {dataset.nbytes} bytes, more than {most}")
    return dataset[()].T


def cells(file, dataset, most, way=()):
    """Yield the arrays of a cell array and of those in its cells, each with the places on the way; empty cells are left out."""
    import h5py
    import numpy as np

    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{dataset.name} is no cell array")
    if "MATLAB_empty" in dataset.attrs or not dataset.size:
        return
    found = values(dataset, most)
    if h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference:
        yield way, found
        return
    if len(way) == DEPTH:
        raise ValueError(f"{dataset.name}: cell arrays in more than {DEPTH} others")
    for place in np.ndindex(*found.shape):
        if found[place]:
            yield from cells(file, file[found[place]], most, (*way, place))


def main(path, most, *names):
    """Print the cells of the named variables."""
    set_limits()
    try:
        import h5py
        import numpy as np
    except ImportError as error:
        sys.exit(NO_PACKAGE if error.name == "h5py" else str(error))
    output = sys.stdout.buffer
    with h5py.File(path, "r") as file:
        for name in names:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"it has no variable {name}")
            for way, found in cells(file, file[name], int(most)):
                if found.dtype.kind not in "uif":
                    raise ValueError(f"a cell of {name} holds {found.dtype}, no numbers")
                content = np.ascontiguousarray(found)
                line = json.dumps([name, way, content.dtype.str, content.shape])
                output.write(line.encode() + b"\n")
                output.write(content.tobytes())
    output.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
