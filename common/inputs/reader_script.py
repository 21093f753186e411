"""Reads a file that can end the process which reads it, and prints what is asked for: a script, see `reading_process`.

Prints JSON; of the cells of an HDF5 file a line of JSON for each, [variable, [place in each cell array on the way], data type,
shape], then its bytes.
"""

import json
import sys

MEMORY, OUTPUT = 2**32, 2**28  # bytes, characters of the JSON
SECONDS, SECONDS_OF_CELLS = 60, 3600  # of a core
ERRORS = 2**20  # bytes that it may write into a file: the parent's file of its errors
DEPTH = 3  # cells in cells in cells
NO_PACKAGE = 3  # exit status


def mat_variables(path):
    """Return the variables of a file of MATLAB."""
    from scipy.io import loadmat

    held = loadmat(path, squeeze_me=True, struct_as_record=False)
    return {name: plain(value) for name, value in held.items() if not name.startswith("__")}


def plain(value):
    """Return a value as JSON types: structs as objects by field, arrays and cells as lists."""
    if hasattr(value, "_fieldnames"):
        return {name: plain(getattr(value, name)) for name in value._fieldnames}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [plain(one) for one in value] if isinstance(value, list) else value


def parquet_values(path):
    """Return the number of values of all columns of a Parquet file, whose statistics are looked at on the way."""
    import pyarrow.parquet as pq

    about = pq.ParquetFile(path).metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    return sum(one.column(place).num_values for one in groups for place in range(one.num_columns))


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


def print_cells(path, most, *names):
    """Print the cells of the named variables of a file of MATLAB's version 7.3.

    Args:
        most: bytes of an array.
    """
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


READERS = {"mat": mat_variables, "parquet": parquet_values}


def set_limits(seconds):
    """Set the limits of memory and time, or leave those that are lower; what is read goes into a pipe."""
    try:
        import resource  # POSIX only
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, ERRORS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def main(kind, path, *words):
    """Print what the reader of this kind returns."""
    if kind == "cells":
        set_limits(SECONDS_OF_CELLS)
        print_cells(path, *words)
        return
    set_limits(SECONDS)
    text = json.dumps(READERS[kind](path))
    if len(text) > OUTPUT:
        raise ValueError(f"it holds {len(text):,} characters of JSON, more than {OUTPUT:,}")
    sys.stdout.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
