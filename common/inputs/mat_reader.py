"""Prints the variables in a file of MATLAB as JSON: a script for another process, see `mat_file`."""

import json
import sys

MEMORY, SECONDS, OUTPUT = 2**32, 60, 2**28  # bytes, seconds of a core, bytes of the JSON


def plain(value):
    """Return a value as JSON types: structs as objects by field, arrays and cells as lists."""
    if hasattr(value, "_fieldnames"):
        return {name: plain(getattr(value, name)) for name in value._fieldnames}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [plain(one) for one in value] if isinstance(value, list) else value


def main(path):
    """Print the file's variables."""
    try:
        import resource  # POSIX only

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT, OUTPUT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:
        pass
    from scipy.io import loadmat

    held = loadmat(path, squeeze_me=True, struct_as_record=False)
    json.dump({name: plain(value) for name, value in held.items() if not name.startswith("__")}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
