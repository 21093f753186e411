"""tools/published/generalisation.py: trained on some data sets, tested on those that were never seen."""

import importlib
import json
import shutil

import pytest
from conftest import TINY

from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.datasets import build_data, build_test_sets, read_dataset
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.tools.cli.main import COMMANDS
from vitreid.tools.published import repeat
from vitreid.tools.published.generalisation import plan, who_saw_what
from vitreid.tools.published.reproduce import main

SETS = {"market1501": "market1501", "dukemtmc": "dukemtmc"}
OPTIONS = [
    word
    for key, value in zip(TINY[::2], TINY[1::2])
    for word in (key, value)
    if key not in ("DATASETS.NAMES", "SOLVER.EVAL_PERIOD")
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two small data sets of other people in Market-1501's layout, and the training images of a third, CUHK-SYSU."""
    root = tmp_path_factory.mktemp("domains")
    for seed, (name, folder) in enumerate(SETS.items()):
        size = SyntheticPlan(
            num_train_ids=8,
            num_test_ids=6,
            num_distractors=2,
            num_cameras=3,
            images_per_camera=2,
            size=(64, 32),
            seed=seed,
        )
        generate(root / "made" / name, size)
        shutil.move(root / "made" / name, root / folder)
    crops = root / "cuhk-sysu" / "cropped_images"
    crops.mkdir(parents=True)
    generate(root / "made" / "third", SyntheticPlan(num_train_ids=8, num_test_ids=2, size=(64, 32), seed=9))
    for number, path in enumerate(sorted((root / "made" / "third" / "bounding_box_train").glob("*.jpg"))):
        shutil.copy(path, crops / f"p{int(path.name[:4])}_s1_{number}.jpg")
    return root


@pytest.fixture
def here(monkeypatch):
    """Run commands in this process; return what was run."""
    ran = []

    def execute(words, log):
        ran.append(words)
        module = importlib.import_module(f"vitreid.tools.{COMMANDS[words[1]].module}")
        log.write_text("")
        assert module.main(words[2:]) == 0, words
        return 60.0

    monkeypatch.setattr(repeat, "_execute", execute)
    return ran


def domains(root):
    return {name: read_dataset(name, root) for name in (*SETS, "cuhk-sysu")}


def test_each_data_set_alone_and_all_but_each_that_can_be_tested_on(root):
    trained = [(run.trained, run.tested) for run in plan(domains(root))]
    both = ("market1501", "dukemtmc")
    assert trained == [
        (("market1501",), both),
        (("dukemtmc",), both),
        (("cuhk-sysu",), both),
        (("dukemtmc", "cuhk-sysu"), both),
        (("market1501", "cuhk-sysu"), both),
    ]
    with_test_people = [(run.trained, run.tested) for run in plan(domains(root), all_parts=True)]
    assert [tested for _, tested in with_test_people] == [both[1:], both[:1], both, both[:1], both[1:]]


@pytest.mark.parametrize("names", [(), ("market1501",), ("cuhk-sysu",)])
def test_fewer_than_two_data_sets_are_refused(names, root):
    with pytest.raises(UserError, match="--sets: .*two data sets or more"):
        plan({name: data for name, data in domains(root).items() if name in names})


@pytest.mark.slow
@pytest.mark.parametrize("flags, cells", [((), 10), (("--all-parts",), 6)])
def test_the_table_has_the_figures_of_the_runs(flags, cells, root, here, tmp_path, capsys):
    words = ["dg", *OPTIONS, "--sets", "Market1501", "dukemtmc", "cuhk-sysu", "--seeds", "3"]
    words += ["--config_file", "market/vit_base"]
    words += ["--root", str(root), "--output", str(tmp_path), *flags]
    assert main(words) == 0
    shown = capsys.readouterr().out
    folder = tmp_path / f"dg{'-all' if flags else ''}-dukemtmc-3"
    figures = json.loads((folder / "metrics.json").read_text())
    figures = figures if flags else figures["market1501"]
    expected = f"{100 * figures['mAP']:.1f} / {100 * figures['Rank-1']:.1f}"
    rows = [line for line in shown.partition("Who saw what")[0].splitlines() if line.startswith("| ")]
    table = "\n".join(rows[2:])
    assert table.count(" / ") == cells
    assert f"| dukemtmc | {expected} |" in table
    assert table.count("(") == (0 if flags else 4) and "seeds 3;" in shown
    together = (tmp_path / f"dg{'-all' if flags else ''}-market1501+cuhk-sysu-3" / "log.txt").read_text()
    images, people = (48 + 128, 8 + 8) if not flags else (84 + 128, 14 + 8)  # 84: with the images of 6 test people
    assert f"market1501+cuhk-sysu: {images} training images of {people} people" in together
    evaluated = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if "mAP" in line]
    assert len(evaluated) == 1 and json.loads(evaluated[0])["epoch"] == 2  # no epoch was chosen by a test set
    here.clear()
    assert main(words) == 0 and capsys.readouterr().out in shown and not here


def test_images_of_a_test_part_that_are_trained_on_are_counted_and_said(root, tmp_path):
    assert "Warning" not in who_saw_what(domains(root))
    shutil.copytree(root, tmp_path / "copy")
    query = sorted((tmp_path / "copy" / "market1501" / "query").glob("*.jpg"))[0]
    shutil.copy(query, tmp_path / "copy" / "cuhk-sysu" / "cropped_images" / "p900_s1_900.jpg")
    shown = who_saw_what(domains(tmp_path / "copy"))
    assert "Warning: 1 images of market1501's test part are trained on with cuhk-sysu" in shown
    assert shown.count("Warning") == 1


def test_the_list_runs_nothing(root, here, tmp_path, capsys):
    assert main(["dg", "--list", "--sets", *SETS, "--root", str(root), "--output", str(tmp_path / "none")]) == 0
    shown = capsys.readouterr().out
    assert "DATASETS.NAMES '('\"'\"'market1501'\"'\"',)'" in shown and "Who saw what" in shown
    assert not here and not (tmp_path / "none").exists()


def test_files_are_named_from_everywhere(root, here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yml").write_text("_BASE_: market/vit_base.yml\n")
    (tmp_path / "w.pth").write_bytes(b"")
    words = ["dg", "MODEL.PRETRAIN_PATH", "w.pth", "--list", "--sets", *SETS, "--root", str(root)]
    assert main([*words, "--config_file", "mine.yml"]) == 0
    shown = capsys.readouterr().out
    assert f"--config_file {tmp_path / 'mine.yml'} " in shown and f"MODEL.PRETRAIN_PATH {tmp_path / 'w.pth'}" in shown


@pytest.mark.parametrize(
    "words, message",
    [
        (["dg", "DATASETS.NAMES", "veri"], "DATASETS.NAMES: the table dg sets it (use --sets"),
        (["dg", "SOLVER.SEED", "1"], "SOLVER.SEED: the table dg sets it (use --seeds"),
        (["dg", "SOLVER.SPEED", "1"], "SOLVER.SPEED"),
        (["dg", "--sets", "market1501", "Market1501"], "names a data set twice"),
        (["dg", "--sets", "market1501", "market1502"], "--sets: unknown data set 'market1502'"),
        (["dg", "--sets", "market1501", "msmt17"], "--root: msmt17 not found"),
        (["demo", "--sets", "market1501"], "--sets: for the table dg only"),
        (["demo", "--all-parts"], "--all-parts: for the table dg only"),
        (["demo", "SOLVER.MAX_EPOCHS", "1"], "KEY VALUE: for the table dg only"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(words, message, root, here, tmp_path, capsys):
    assert main([*words, "--root", str(root), "--output", str(tmp_path / "none")]) == 2
    assert message in capsys.readouterr().err
    assert not here and not (tmp_path / "none").exists()


# ---- DATASETS.TRAIN_PARTS


def config(root, *words):
    return load_config(None, [*OPTIONS, "DATASETS.ROOT_DIR", str(root), "DATASETS.TRAIN_PARTS", "all", *words])


def test_test_people_are_trained_on_and_distractors_are_not(root):
    market, duke = read_dataset("market1501", root), read_dataset("dukemtmc", root)
    data = build_data(config(root, "DATASETS.NAMES", "market1501", "DATASETS.TEST", "dukemtmc"))
    queried = {one.pid for one in market.query}
    assert len(queried) < len({one.pid for one in market.gallery})  # there are distractors
    expected = {one.path for one in (*market.train, *market.query)}
    expected |= {one.path for one in market.gallery if one.pid in queried}
    assert {one.path for one in data.train} == expected and len(data.train) == len(expected)
    assert [one.path for one in data.query] == [one.path for one in duke.query]


@pytest.mark.parametrize("words", [(), ("DATASETS.TEST", "('dukemtmc', 'market1501')")])
def test_a_test_set_that_is_trained_on_is_refused(words, root):
    cfg = config(root, "DATASETS.NAMES", "market1501", *words)
    with pytest.raises(UserError, match=r"DATASETS\.TEST: the people of market1501 are trained on"):
        build_test_sets(cfg)
    if not words:
        with pytest.raises(UserError, match=r"DATASETS\.TEST: the people of market1501 are trained on"):
            build_data(cfg)


def test_people_held_out_of_all_parts_are_not_trained_on(root):
    data = build_data(config(root, "DATASETS.NAMES", "market1501", "DATASETS.VAL_IDS", "4"))
    assert not {one.pid for one in data.train} & {one.pid for one in (*data.query, *data.gallery)}
    assert len({one.pid for one in (*data.train, *data.query)}) == 14
