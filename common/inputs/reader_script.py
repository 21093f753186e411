"""Reads a file that can end the process which reads it, and prints what is asked for as JSON: a script, see `reading_process`."""

import json
import sys

MEMORY, SECONDS, OUTPUT = 2**32, 60, 2**28  # bytes, seconds of a core, characters of the JSON


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


READERS = {"mat": mat_variables, "parquet": parquet_values}


def set_limits():
    """Set the limits of memory and time, or leave those that are lower."""
    try:
        import resource  # POSIX only
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def main(kind, path):
    """Print what the reader of this kind returns."""
    set_limits()
    text = json.dumps(READERS[kind](path))
    if len(text) > OUTPUT:
        raise ValueError(f"it holds {len(text):,} characters of JSON, more than {OUTPUT:,}")
    sys.stdout.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
