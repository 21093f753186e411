"""`vitreid datasets`, and the page that it writes."""

import pytest
from helpers import ROOT

from vitreid.datasets.dataset_terms import TERMS
from vitreid.datasets.published.catalog import PUBLISHED
from vitreid.datasets.readers.dataset_registry import DATASETS
from vitreid.tools.published.dataset_page import REFERENCES, main, page


@pytest.mark.clone
def test_the_page_is_up_to_date(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page()
    assert (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8") == page()


def test_every_published_data_set_is_listed_with_its_terms(capsys):
    assert main([]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert listed == set(PUBLISHED) == set(DATASETS) - {"synthetic", "manifest", "folder", "crops"}
    assert listed < set(TERMS)
    assert set(REFERENCES) < listed
