"""Files read in another process: what one that holds little else takes is theirs, and not that of earlier tests."""

from deadline import at_once

from vitreid.benchmarks.attacks.stranger_files import read
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.common.errors import UserError
from vitreid.common.inputs import parquet_file


def prepare():
    """Let small files show what large ones would take."""
    parquet_file.GROUP_BYTES = 2**27


def read_measured(kind, path):
    """Return the text of the error by which a file is refused, "" for none, and the bytes of memory; None = not measured here."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # VmHWM starts again from VmRSS
    except OSError:
        return "", None
    before, text = status_bytes("VmRSS"), ""
    try:
        with at_once():
            read(kind, path)
    except (UserError, OSError) as error:
        text = str(error)
    return text, status_bytes("VmHWM") - before
