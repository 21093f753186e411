"""Who is junk for a query: its own file under every protocol but "none"."""

import numpy as np
import pytest

from vitreid.evaluation import (
    PROTOCOLS,
    Protocol,
    RetrievalData,
    RetrievalMetric,
    camera_pairs,
    evaluate_distances,
    evaluate_retrieval,
    verify,
)

QUERY, GALLERY = np.float32([[0.0]]), np.float32([[0.0], [1.0], [2.0]])  # one query; the gallery in its order
LABELS = {"q_pids": [7], "g_pids": [7, 5, 7], "q_camids": [0]}
FILES = {"q_files": ["a.jpg"], "g_files": ["a.jpg", "b.jpg", "c.jpg"]}  # the query itself comes first


def judge(protocol, g_camids=(0, 0, 0), files=FILES):
    return evaluate_retrieval(QUERY, GALLERY, **LABELS, g_camids=list(g_camids), protocol=protocol, **files)


def test_the_querys_own_file_is_junk_without_cameras():
    assert judge("own-file").mAP == pytest.approx(1 / 2)  # another person, then the other image
    assert judge("own-file").rank(1) == 0


def test_the_querys_own_file_is_junk_under_an_invented_camera():
    assert judge("same-camera", (1, 1, 1)).mAP == pytest.approx(1 / 2)


def test_nothing_is_junk_under_the_protocol_none():
    assert judge("none").mAP == pytest.approx((1 + 2 / 3) / 2)


def test_without_files_only_cameras_are_compared():
    assert judge("own-file", files={}).rank(1) == 1
    assert judge("same-camera", (0, 1, 1), files={}).mAP == pytest.approx(1 / 2)


def test_another_persons_label_on_the_same_file_stays_wrong():
    files = {"q_files": ["a.jpg"], "g_files": ["a.jpg", "b.jpg", "c.jpg"]}
    found = evaluate_retrieval(
        QUERY, GALLERY, q_pids=[7], g_pids=[5, 7, 7], q_camids=[0], g_camids=[0, 0, 0], protocol="own-file", **files
    )
    assert found.mAP == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_protocol_is_a_value():
    rule = Protocol("cameras only", ("camera",), "images of the query's camera")
    assert judge(rule, (1, 1, 1)).rank(1) == 1
    assert {"same-camera", "own-file", "none"} < set(PROTOCOLS)


def test_every_evaluation_leaves_the_own_file_out():
    data = RetrievalData(QUERY, GALLERY, **LABELS, g_camids=[1, 1, 2], **FILES)
    assert camera_pairs(data).num_valid.tolist() == [[0, 1]]
    assert verify(data).genuine.tolist() == [2.0]
    assert data.select(gallery=np.array([0, 1])).matches.of(0)[1].tolist() == [0]
    distances = evaluate_distances([[0.0, 1, 2]], **LABELS, g_camids=[1, 1, 2], **FILES)
    assert distances.mAP == pytest.approx(1 / 2)


def test_files_are_given_on_both_sides():
    with pytest.raises(ValueError, match="q_files and g_files: give both"):
        judge("own-file", files={"q_files": ["a.jpg"]})
    with pytest.raises(ValueError, match=r"g_files.*\b3 labels.*\(2,\)"):
        judge("own-file", files={"q_files": ["a.jpg"], "g_files": ["a.jpg", "b.jpg"]})


def test_people_and_cameras_may_be_names():
    numbers = evaluate_retrieval(QUERY, GALLERY, [7], [7, 5, 7], [0], [0, 1, 1])
    names = evaluate_retrieval(QUERY, GALLERY, ["ann"], ["ann", "bob", "ann"], ["door"], ["door", "hall", "hall"])
    assert (names.mAP, names.rank(1)) == (numbers.mAP, numbers.rank(1)) == (0.5, 0)


def test_names_are_numbered_alphabetically_on_both_sides():
    data = RetrievalData(QUERY, GALLERY, ["eve"], np.array(["bob", "eve", "ann"], object), ["x"], ["y", "y", "y"])
    assert data.q_pids.tolist() == [2] and data.g_pids.tolist() == [1, 2, 0]


def test_names_and_numbers_do_not_mix():
    with pytest.raises(ValueError, match=r"pids: the queries have integers, the gallery names"):
        evaluate_retrieval(QUERY, GALLERY, [7], ["7", "5", "7"], [0], [1, 1, 1])


def test_batches_may_have_names_too():
    metric = RetrievalMetric()
    metric.update(QUERY, ["ann"], ["door"], is_query=True)
    metric.update(GALLERY[1:2], ["ann"], ["hall"], is_query=False)
    metric.update(GALLERY[:1], ["bob"], ["hall"], is_query=False)
    assert metric.compute().mAP == pytest.approx(1 / 2)
