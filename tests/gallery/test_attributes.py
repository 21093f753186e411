"""Attributes of people: labels read, heads fitted on some people and true for others, predictions in the columns of a gallery."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from vitreid.common.errors import UserError
from vitreid.gallery import Gallery, GalleryInfo, fit_pca
from vitreid.gallery.attributes.attribute_columns import fit_attributes, predict_attributes, score_attributes
from vitreid.gallery.attributes.attribute_heads import AttributeHeads, fit_head, score
from vitreid.gallery.attributes.attribute_labels import read_labels
from vitreid.tools.people import attributes

WIDTH, PEOPLE, IMAGES = 24, 90, 6
MODEL = "sha256:of-the-test"
COLOURS = ("blue", "green", "red")


def people_of(seed, clear=2.0):
    """Return embeddings (n, WIDTH), pids (n,) and the attributes of made-up people: a hat and a colour move the embedding."""
    dice = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(4, WIDTH))
    hats, colours = dice.random(PEOPLE) < 0.3, dice.integers(3, size=PEOPLE)
    people = dice.normal(size=(PEOPLE, WIDTH)) + clear * (hats[:, None] * directions[3] + directions[colours])
    rows = np.repeat(people, IMAGES, 0) + 0.2 * dice.normal(size=(PEOPLE * IMAGES, WIDTH))
    pids = [str(1000 * seed + person) for person in range(PEOPLE)]
    about = {
        pid: {"hat": "yes" if hat else "no", "colour": COLOURS[colour]}
        for pid, hat, colour in zip(pids, hats, colours, strict=True)
    }
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows, [pid for pid in pids for _ in range(IMAGES)], about


def make_gallery(folder, rows, pids, model=MODEL):
    gallery = Gallery.create(folder, GalleryInfo(model, rows.shape[1], embed={"normalize": True}))
    gallery.add(rows, [{"path": f"{n}.jpg", "pid": pid} for n, pid in enumerate(pids)], model)
    return gallery


def write_labels(path, *tables):
    about = {pid: values for table in tables for pid, values in table.items()}
    names = list(dict.fromkeys(name for values in about.values() for name in values))
    lines = [",".join([pid, *(values.get(name, "") for name in names)]) for pid, values in about.items()]
    path.write_text("\n".join([",".join(["pid", *names]), *lines, ""]))
    return path


@pytest.fixture
def trained(tmp_path):
    """A gallery of labelled people, one of others, and the labels of both."""
    (rows, pids, about), (others, other_pids, other_about) = people_of(1), people_of(2)
    labels = write_labels(tmp_path / "attributes.csv", about, other_about)
    make_gallery(tmp_path / "train", rows, pids)
    return make_gallery(tmp_path / "G", others, other_pids), labels, tmp_path


# ---- labels


def mat_part(people, **columns):
    names = ["downblue", "downred", "upblack", "upgreen"]
    rest = {name: np.ones(len(people), np.uint8) for name in names} | columns
    return {**rest, "image_index": np.array(people, object)}


def test_the_published_file_is_read_by_names_and_values(tmp_path):
    train = mat_part(
        ["0002", "0007"], age=[2, 4], up=[2, 1], down=[1, 2], gender=[1, 2], hat=[1, 2], upgreen=[1, 2], downred=[2, 1]
    )
    test = mat_part(["0001", "-1"], age=[1, 3], up=[1, 1], down=[1, 1], gender=[2, 0], hat=[1, 1])
    savemat(tmp_path / "market_attribute.mat", {"market_attribute": {"train": train, "test": test}})
    labels = read_labels(tmp_path / "market_attribute.mat")
    assert labels.people["0002"] == {
        "age": "teenager",
        "sleeves": "short",
        "lower_length": "long",
        "gender": "male",
        "hat": "no",
        "lower_colour": "red",
    }
    assert labels.people["0007"]["upper_colour"] == "green" and "lower_colour" not in labels.people["0007"]
    assert "gender" not in labels.people["-1"]
    assert labels.of(["2", "0002", "7", None, "44"], "hat").tolist() == ["no", "no", "yes", None, None]


def test_people_whose_numbers_differ_by_zeros_stay_two(tmp_path):
    labels = read_labels(write_labels(tmp_path / "a.csv", {"7": {"hat": "no"}, "007": {"hat": "yes"}}))
    assert labels.of(["7", "007", "07"], "hat").tolist() == ["no", "yes", None]


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", b"person,hat\n1,yes\n", "person, hat.*expected pid"),
        ("a.csv", b"pid,hat,hat\n1,yes,no\n", "each attribute once"),
        ("a.csv", b"pid,hat\n1,yes,no\n", "line 2: another number of values"),
        ("a.csv", b"pid,hat\n1\n", "line 2: another number of values"),
        ("a.csv", b"pid,hat\n,yes\n", "line 2: no pid"),
        ("a.csv", b"pid,hat\n1,yes\n1,no\n", "line 3: hat of person 1 is 'no', and 'yes' before"),
        ("a.csv", b"pid\n1\n", "no attribute"),
        ("a.csv", b"pid,hat\n1,\xff\n", "UTF-8"),
        ("a.csv", b"", "expected pid"),
        ("a.csv", b"pid,height\n1,tall\n", "'height' has the name of a column with another meaning"),
        ("a.csv", b"pid,person\n1,x\n", "'person' has the name"),
        ("a.csv", b"pid,hat_probability\n1,x\n", "'hat_probability' has the name"),
        ("a.csv", b"pid,size=big\n1,x\n", "'size=big' cannot be asked for"),
        ("a.csv", b",pid,hat\n0,1,x\n", "'' cannot be asked for"),
        ("a.csv", b"pid" + b",a" * 2000 + b"\n", "the columns are"),
        ("a.mat", b"pid,hat\n1,yes\n", "a.mat is damaged or no file of MATLAB"),
        ("a.mat", b"", "a.mat is damaged"),
        ("a.mat", b"MATLAB 5.0 MAT-file" + bytes(300), "a.mat"),
    ],
)
def test_other_files_are_refused_with_line_and_reason(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as refused:
        read_labels(tmp_path / name)
    assert name in str(refused.value)


# ---- heads


def test_heads_are_right_about_people_that_they_have_not_seen(trained):
    gallery, labels, folder = trained
    heads = fit_attributes(Gallery.open(folder / "train"), read_labels(labels))
    found = score_attributes(gallery, heads, read_labels(labels))
    for head in heads.heads:
        assert found[head.name].accuracy > 0.9
        assert found[head.name].accuracy == pytest.approx(head.scores.accuracy, abs=0.08), "what fit promised"


def test_the_promise_is_that_of_new_people_and_not_of_new_images():
    rows, pids, _ = people_of(3)
    drawn = np.random.default_rng(5).random(PEOPLE) < 0.5  # nothing to learn but the person
    head = fit_head("luck", rows, np.repeat(np.where(drawn, "yes", "no"), IMAGES), pids)
    assert 0.3 < head.scores.accuracy < 0.65
    assert head.predict(rows)[1].mean() < 0.75, "and it is not sure of itself"


def test_a_probability_is_the_share_that_is_right():
    (rows, pids, about), (others, other_pids, other_about) = people_of(6, clear=0.6), people_of(7, clear=0.6)
    head = fit_head("colour", rows, [about[pid]["colour"] for pid in pids], pids)
    found, probabilities = head.predict(others)
    right = found == np.array([other_about[pid]["colour"] for pid in other_pids])
    assert 0.5 < right.mean() < 0.9, "neither easy nor hopeless"
    assert probabilities.mean() == pytest.approx(right.mean(), abs=0.1)
    np.testing.assert_allclose(head.probabilities(others).sum(1), 1, rtol=1e-5)


def test_scores_are_those_of_a_plain_count():
    dice = np.random.default_rng(0)
    values, found = dice.choice(COLOURS, 500, p=[0.6, 0.3, 0.1]), dice.choice(COLOURS, 500)
    per_value = {colour: [f == v for f, v in zip(found, values, strict=True) if v == colour] for colour in COLOURS}
    got = score(found, values)
    assert got.accuracy == sum(map(sum, per_value.values())) / 500
    assert got.balanced == pytest.approx(sum(sum(one) / len(one) for one in per_value.values()) / 3)
    assert got.commonest == max(map(len, per_value.values())) / 500


def test_rare_values_are_found_more_often_if_all_weigh_the_same():
    rows, pids, about = people_of(8, clear=0.5)
    values = [about[pid]["hat"] for pid in pids]
    plain, balanced = (fit_head("hat", rows, values, pids, balanced=one).scores for one in (False, True))
    assert balanced.balanced > plain.balanced


def test_an_attribute_with_few_people_is_left_out_by_name(trained, caplog):
    _, labels, folder = trained
    about = read_labels(labels).people
    write_labels(labels, {pid: {**values, "cape": "yes" if pid == "1001" else "no"} for pid, values in about.items()})
    heads = fit_attributes(Gallery.open(folder / "train"), read_labels(labels))
    assert [head.name for head in heads.heads] == ["hat", "colour"]
    assert "cape yes: 1 people, a head needs 6" in caplog.text and "left out: cape: 1 values" in caplog.text
    with pytest.raises(UserError, match="no attribute has enough people"):
        fit_attributes(Gallery.open(folder / "train"), read_labels(labels), ["cape"])
    with pytest.raises(UserError, match="'boots' is not in .*hat, colour, cape"):
        fit_attributes(Gallery.open(folder / "train"), read_labels(labels), ["boots"])


def test_a_rare_value_is_left_out_and_the_others_are_learnt(trained, caplog):
    _, labels, folder = trained
    about = read_labels(labels).people
    odd = {pid: values | {"colour": "gold"} if pid in ("1003", "1004") else values for pid, values in about.items()}
    heads = fit_attributes(Gallery.open(folder / "train"), read_labels(write_labels(labels, odd)), ["colour"])
    assert heads.heads[0].values == COLOURS and "colour gold: 2 people, a head needs 6" in caplog.text
    assert heads.heads[0].scores.rows == (PEOPLE - 2) * IMAGES


def test_all_attributes_of_the_same_rows_are_one_write(trained, monkeypatch):
    gallery, labels, folder = trained
    heads, writes = fit_attributes(Gallery.open(folder / "train"), read_labels(labels)), []
    write = Gallery.set_values
    monkeypatch.setattr(Gallery, "set_values", lambda *given: (writes.append(1), write(*given))[1])
    predict_attributes(gallery, heads)
    assert len(heads.heads) == 2 and len(writes) == 1
    assert predict_attributes(gallery, heads) == 0


def test_an_empty_gallery_gets_the_columns(trained):
    gallery, labels, folder = trained
    empty = Gallery.create(folder / "empty", gallery.info)
    assert predict_attributes(empty, fit_attributes(Gallery.open(folder / "train"), read_labels(labels))) == 0
    assert {"hat", "hat_probability", "colour"} <= set(empty.columns)


def test_heads_are_the_same_after_saving(trained):
    gallery, labels, folder = trained
    heads = fit_attributes(Gallery.open(folder / "train"), read_labels(labels))
    heads.save(folder / "heads.npz")
    loaded = AttributeHeads.load(folder / "heads.npz")
    rows = gallery.vectors(np.arange(20))
    for mine, its in zip(heads.heads, loaded.heads, strict=True):
        assert (mine.name, mine.values, mine.temperature, mine.scores) == (
            its.name,
            its.values,
            its.temperature,
            its.scores,
        )
        np.testing.assert_array_equal(mine.probabilities(rows), its.probabilities(rows))


def damaged(**changes):
    def change(arrays):
        about = json.loads(arrays["about"].tobytes())
        for path, value in changes.items():
            target, last = about, path.split("__")
            for step in last[:-1]:
                target = target[int(step) if step.isdigit() else step]
            target[last[-1]] = value
        return arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}

    return change


@pytest.mark.parametrize(
    "change",
    [
        damaged(format=2),
        damaged(dimension=7),
        damaged(dimension="x"),
        damaged(heads=[1]),
        damaged(heads=[]),
        damaged(dimension=float("inf")),
        damaged(projection=3),
        damaged(heads__0__scores={"rows": float("inf"), "accuracy": 1, "balanced": 1, "commonest": 1}),
        damaged(heads__0__values=["yes", "yes"]),
        damaged(heads__0__name="height"),
        damaged(heads__0__values=["yes"]),
        damaged(heads__0__values=["yes", 1]),
        damaged(heads__0__temperature=float("nan")),
        damaged(heads__0__scores={}),
        damaged(heads__0__name=None),
        lambda arrays: arrays | {"weights 0": arrays["weights 0"].astype(np.int64)},
        lambda arrays: arrays | {"bias 0": arrays["bias 0"] * np.nan},
        lambda arrays: arrays | {"about": np.frombuffer(b"{", np.uint8)},
        lambda arrays: {name: value for name, value in arrays.items() if name != "bias 1"},
    ],
)
def test_a_damaged_file_of_heads_is_refused_by_name(change, trained):
    _, labels, folder = trained
    fit_attributes(Gallery.open(folder / "train"), read_labels(labels)).save(folder / "heads.npz")
    with np.load(folder / "heads.npz") as arrays:
        np.savez(folder / "damaged.npz", **change(dict(arrays)))
    with pytest.raises(UserError, match="damaged.npz"):
        AttributeHeads.load(folder / "damaged.npz")


# ---- columns


def test_predictions_become_columns_that_a_search_filters_by(trained, capsys):
    gallery, labels, folder = trained
    about, heads = read_labels(labels).people, folder / "heads.npz"
    assert attributes.main(["fit", str(folder / "train"), "--labels", str(labels), "--output", str(heads)]) == 0
    assert attributes.main(["predict", str(gallery.path), "--heads", str(heads)]) == 0
    assert "540 rows written" in capsys.readouterr().out
    assert attributes.main(["test", str(gallery.path), "--heads", str(heads), "--labels", str(labels), "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["hat"]["accuracy"]
    gallery.refresh()
    records = gallery.select(["pid", "hat", "hat_probability", "colour"]).to_pylist()
    assert np.mean([about[row["pid"]]["hat"] == row["hat"] for row in records]) == accuracy
    assert all(0.5 <= row["hat_probability"] <= 1 for row in records)
    where = ["hat=yes", "colour=red", "hat_probability>=0.9"]
    shown = gallery.search(gallery.vectors([0]), topk=50, where=where)[0].rows
    assert shown and all(
        row["hat"] == "yes" and row["colour"] == "red" and row["hat_probability"] >= 0.9 for row in shown
    )


def test_later_rows_are_predicted_alone_unless_all_are_asked_for(trained):
    gallery, labels, folder = trained
    heads = fit_attributes(Gallery.open(folder / "train"), read_labels(labels))
    assert predict_attributes(gallery, heads) == PEOPLE * IMAGES
    gallery.update([0], {"hat": "corrected by hand"})
    rows, pids, _ = people_of(4)
    gallery.add(rows[:5], [{"path": f"later {n}.jpg", "pid": pid} for n, pid in enumerate(pids[:5])], MODEL)
    assert predict_attributes(gallery, heads) == 5
    assert gallery.select(["hat"])["hat"][0].as_py() == "corrected by hand"
    assert predict_attributes(gallery, heads, again=True) == PEOPLE * IMAGES + 5
    assert gallery.select(["hat"])["hat"][0].as_py() in ("yes", "no")


def test_predictions_fill_in_what_is_empty_and_nothing_else(trained):
    gallery, labels, folder = trained
    train = Gallery.open(folder / "train")
    predict_attributes(gallery, fit_attributes(train, read_labels(labels), ["hat"]))
    gallery.update([0], {"hat": "corrected by hand"})
    both = fit_attributes(train, read_labels(labels))
    assert predict_attributes(gallery, both) == PEOPLE * IMAGES, "colour is new"
    gallery.update([0], {"colour": None})
    assert predict_attributes(gallery, both) == 1
    row = gallery.rows_of([0])[0]
    assert row["hat"] == "corrected by hand" and row["colour"] in COLOURS


def test_one_person_under_two_numbers_is_one(tmp_path):
    rows, pids, _ = people_of(3)
    drawn = np.random.default_rng(5).random(PEOPLE) < 0.5
    about = {
        str(int(pid)): {"luck": "yes" if luck else "no"} for pid, luck in zip(dict.fromkeys(pids), drawn, strict=True)
    }
    mixed = [pid if number % 2 else f"0{pid}" for number, pid in enumerate(pids)]
    heads = fit_attributes(
        make_gallery(tmp_path / "G", rows, mixed), read_labels(write_labels(tmp_path / "a.csv", about))
    )
    assert heads.heads[0].scores.accuracy < 0.65


def test_another_projection_of_the_same_model_is_refused(trained):
    gallery, labels, folder = trained
    heads = fit_attributes(fit_pca(Gallery.open(folder / "train"), folder / "train8", 8), read_labels(labels))
    with pytest.raises(UserError, match="another projection"):
        predict_attributes(fit_pca(gallery, folder / "G8", 8), heads)


def test_labels_without_an_attribute_of_the_heads_are_refused(trained):
    gallery, labels, folder = trained
    heads = fit_attributes(Gallery.open(folder / "train"), read_labels(labels), ["hat"])
    about = {pid: {"colour": values["colour"]} for pid, values in read_labels(labels).people.items()}
    with pytest.raises(UserError, match="has colour, the heads hat"):
        score_attributes(gallery, heads, read_labels(write_labels(labels, about)))


def test_what_does_not_belong_together_is_refused(trained):
    gallery, labels, folder = trained
    heads = fit_attributes(Gallery.open(folder / "train"), read_labels(labels))
    other = make_gallery(folder / "other", gallery.vectors(np.arange(3)), ["1"] * 3, "sha256:of-another")
    with pytest.raises(UserError, match="of-another.*fit heads on a gallery of this model"):
        predict_attributes(other, heads)
    with pytest.raises(UserError, match="no row shows a person of .*pids 1,"):
        fit_attributes(other, read_labels(labels))
    gallery.update([0], {"colour": "of the paint"})
    with pytest.raises(UserError, match="another column 'colour'"):
        predict_attributes(gallery, heads)
    assert gallery.select(["colour"])["colour"][0].as_py() == "of the paint" and "hat" not in gallery.columns
