"""The loop: crops -> embeddings -> people -> confirmed -> training data -> another model -> its embeddings, with the people kept."""

import pytest
from helpers import run_tool

from vitreid.gallery import Gallery
from vitreid.gallery.identities.person_columns import CONFIRMED, PERSON, confirm
from vitreid.tools import export as export_tool
from vitreid.tools.people import identify as identify_tool
from vitreid.tools.people import identities as identities_tool


def export(weights, people, output, *more):
    words = ["--input", str(people / "synthetic" / "bounding_box_train"), "--names", "synthetic", "--device", "cpu"]
    assert export_tool.main(["--weights", str(weights), *words, "--output", str(output), *more]) == 0
    return Gallery.open(output)


@pytest.mark.slow
def test_confirmed_people_train_the_model_that_embeds_them_again(tiny, people, untrained, tmp_path, capsys):
    gallery = export(untrained, people, tmp_path / "G")
    assert identities_tool.main([str(gallery.path), "--k1", "5", "--k2", "2"]) == 0
    gallery.refresh()
    assert None not in gallery.records[PERSON].to_pylist()
    pids = gallery.records["pid"].to_pylist()
    for pid in sorted(set(pids)):  # somebody looks at the groups
        confirm(
            gallery, [id for id, other in zip(gallery.ids.tolist(), pids, strict=True) if other == pid], f"Person {pid}"
        )
    manifest = tmp_path / "people.csv"
    assert identities_tool.main([str(gallery.path), "--to-manifest", str(manifest), "--confirmed"]) == 0
    run_tool([*tiny, "DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(manifest)])
    again = export(tmp_path / "run" / "best.safetensors", people, gallery.path, "--overwrite", "--yes")
    assert again.info.model != gallery.info.model and PERSON not in again.columns
    assert identities_tool.main([str(again.path), "--k1", "5", "--k2", "2"]) == 0
    again.refresh()
    assert again.records[PERSON].to_pylist() == [f"Person {pid}" for pid in again.records["pid"].to_pylist()]
    assert all(again.records[CONFIRMED].to_pylist())
    capsys.readouterr()
    query = str(again.image_path(again.records["path"][0].as_py()))
    weights = str(tmp_path / "run" / "best.safetensors")
    words = [str(again.path), "--weights", weights, "--query", query, "--device", "cpu", "--far", "0.1", "--json"]
    assert identify_tool.main(words) == 0
    assert f'"person": "Person {again.records["pid"][0]}"' in capsys.readouterr().out
