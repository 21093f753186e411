"""What an export with --overwrite would drop, said before it does."""

from __future__ import annotations

import logging
from pathlib import Path

from ....common.errors import UserError
from ...keeping.exported_rows import read_exported
from ...keeping.row_keys import are_in
from ...storage.file_names import METADATA
from ...storage.gallery import Gallery
from .source_scan import Comparison, SourceKeys

logger = logging.getLogger(__name__)
NAMED = 3  # rows named in the message


def check_loss(output: Path, found: SourceKeys | None, is_confirmed: bool) -> None:
    """Say what replacing the gallery in `output` drops: in the log if that is confirmed, else in an error.

    Args:
        found: the rows of the new export; None = they are known only once its recordings were followed.
    Raises:
        FileExistsError: it is not confirmed, and there is a row or a suppressed key.
    """
    if not (output / METADATA).is_file():
        return
    try:
        gallery = Gallery.open(output)
        loss = _loss(gallery, found)
    except (UserError, OSError) as error:
        gallery, loss = None, f"would replace a gallery whose rows cannot be counted ({error})"
    if gallery is not None and not len(gallery) and not gallery.state.suppressed:
        return
    if is_confirmed:
        logger.warning("--overwrite: %s: %s", output, loss.replace("would ", "", 1))
        return
    raise FileExistsError(
        f"--overwrite: {output}: {loss}. Leave --overwrite out to add only what is new, or confirm it with --yes"
    )


def _loss(gallery: Gallery, found: SourceKeys | None) -> str:
    if found is None:
        came = are_in(gallery.live_keys(), read_exported(gallery.path)["key"].combine_chunks())
        lost, what = gallery.ids[gallery.is_live][~came], "were not made by an export (added by hand, or merged)"
        ids = lost
    else:
        compared = Comparison(gallery, found)
        keys = gallery.keys()
        lost = gallery.ids[gallery.is_live & ~are_in(keys, found.keys)]
        ids = compared.by_hand
        what = f"are not in {found.name} and would be lost, {len(ids)} of them added by hand or merged"
    names = [row["path"] for row in gallery.rows_of((ids if len(ids) else lost)[:NAMED])]
    named = f" ({', '.join(names)}{', …' if len(lost) > NAMED else ''})" if names else ""
    kept = gallery.state.suppressed
    return (
        f"would drop its {len(gallery)} rows; {len(lost)} of them {what}{named}; 0 of its {kept} suppressed keys: removed rows "
        "stay out"
    )
