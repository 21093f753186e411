"""Looks at the statistics of every column of a Parquet file: a script for another process, see `parquet_file`.

pyarrow 26 ends the process where a column's size statistics do not fit its type: the C++ exception is not caught.
"""

import json
import sys

MEMORY, SECONDS = 2**32, 60  # bytes, seconds of a core


def main(path):
    """Print the number of columns that were looked at."""
    try:
        import resource  # POSIX only

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:
        pass
    import pyarrow.parquet as pq

    about = pq.ParquetFile(path).metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    json.dump(sum(one.column(place).num_values >= 0 for one in groups for place in range(one.num_columns)), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
