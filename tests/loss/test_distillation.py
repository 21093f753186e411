"""A student learns a teacher's embeddings."""

import pytest
import torch
import torch.nn.functional as F

from vitreid.configs import get_defaults
from vitreid.loss import Distillation, TripletLoss, build_loss

TEACHER = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
INDEX = torch.tensor([3, 7, 7, 19])


def features(rows=4, width=8):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1), requires_grad=True)


def make_loss(num_branches=1, teacher=None, **options):
    cfg = get_defaults()
    cfg.LOSS.update(options)
    return build_loss(cfg, num_classes=5, embed_dim=8, num_branches=num_branches, teacher=teacher)


def test_the_losses_are_those_of_a_loop_over_the_pairs():
    loss, found = Distillation(TEACHER, 8, weight=2.0, relation_weight=3.0), features()
    terms = loss(found, INDEX)
    wanted = TEACHER[INDEX]
    cosines = F.cosine_similarity(loss.projection(found), wanted)
    assert terms["distill"].item() == pytest.approx(2 * (1 - cosines).mean().item(), abs=1e-6)
    pairs = [
        (F.cosine_similarity(found[a], found[b], dim=0) - F.cosine_similarity(wanted[a], wanted[b], dim=0)) ** 2
        for a in range(4)
        for b in range(4)
        if a != b
    ]
    assert terms["relation"].item() == pytest.approx(3 * torch.stack(pairs).mean().item(), abs=1e-6)


def test_a_student_equal_to_its_teacher_has_no_relation_loss():
    terms = Distillation(TEACHER, 6, weight=0.0)(TEACHER[INDEX] * 5, INDEX)
    assert list(terms) == ["relation"] and terms["relation"].item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("weight", "relation"), [(1.0, 0.0), (0.0, 1.0)])
def test_a_weight_of_0_switches_a_term_off(weight, relation):
    loss = Distillation(TEACHER, 8, weight, relation)
    assert list(loss(features(), INDEX)) == (["distill"] if weight else ["relation"])


def test_a_single_image_has_no_relations_and_a_gradient():
    found = features(rows=1)
    terms = Distillation(TEACHER, 8)(found, torch.tensor([2]))
    sum(terms.values()).backward()
    assert terms["relation"].item() == 0 and found.grad.isfinite().all()


def test_steps_bring_the_student_to_the_teacher():
    torch.manual_seed(0)
    loss, student = Distillation(TEACHER, 8), torch.nn.Parameter(torch.randn(20, 8))
    optimizer = torch.optim.Adam([student, *loss.parameters()], 0.05)
    index = torch.arange(20)
    first = sum(loss(student, index).values()).item()
    for _ in range(100):
        optimizer.zero_grad()
        sum(loss(student, index).values()).backward()
        optimizer.step()
    assert sum(loss(student, index).values()).item() < 0.1 * first


def test_half_precision_features_are_compared_in_float32():
    loss = Distillation(TEACHER, 8)
    with torch.autocast("cpu", torch.bfloat16):
        terms = loss(features().bfloat16(), INDEX)
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_the_teacher_is_no_part_of_the_checkpoint():
    loss = make_loss(teacher=TEACHER)
    names = [name for name in loss.state_dict() if name.startswith("distillation")]
    assert names == ["distillation.projection.weight"]


def test_with_jigsaw_branches_the_global_one_is_taught():
    loss = make_loss(num_branches=5, teacher=TEACHER, ID="none", METRIC="none")
    before = torch.randn(4, 5, 8, requires_grad=True)
    terms, _ = loss(before, before, torch.tensor([0, 0, 1, 1]), INDEX)
    sum(terms.values()).backward()
    assert set(terms) == {"distill", "relation"}
    assert before.grad[:, 0].abs().sum() > 0 and before.grad[:, 1:].abs().sum() == 0


def test_metric_norm_scales_the_embeddings_of_the_metric_loss():
    labels = torch.tensor([0, 0, 1, 1])
    loss = make_loss(METRIC_NORM=10.0)
    found = 40 * F.normalize(features(), dim=1)
    terms, _ = loss(found[:, None], found[:, None], labels)
    expected = TripletLoss(None)((found / 4)[None], labels)
    assert terms["triplet"].item() == pytest.approx(expected.item(), rel=1e-6)
