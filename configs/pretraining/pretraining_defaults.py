"""Options of self-supervised pre-training, `vitreid pretrain`; batches, rates and epochs are those of SOLVER, colours those of INPUT."""

from __future__ import annotations

from ..options import Option

PRETRAINING_OPTIONS: dict[str, Option] = {
    "PRETRAIN.METHOD": Option(
        "ibot",
        "vitreid pretrain: dino = crops of one image have one output [Caron et al., ICCV 2021]; ibot = the same, and masked patches are "
        "predicted [Zhou et al., ICLR 2022]",
        ("dino", "ibot"),
    ),
    "PRETRAIN.GLOBAL_SCALE": Option(
        (0.4, 1.0),
        "share of the image's area in each of the two large crops, least and most [DINO]",
        at_least=0.01,
        at_most=1,
        length=2,
    ),
    "PRETRAIN.LOCAL_SCALE": Option(
        (0.05, 0.4),
        "share of the image's area in a small crop, least and most [DINO]",
        at_least=0.01,
        at_most=1,
        length=2,
    ),
    "PRETRAIN.GLOBAL_SIZE": Option(
        (0, 0), "(height, width) of the large crops in pixels; (0, 0) = INPUT.SIZE_TRAIN", at_least=0, length=2
    ),
    "PRETRAIN.LOCAL_CROPS": Option(8, "small crops per image, which only the student sees [DINO]", at_least=0),
    "PRETRAIN.LOCAL_SIZE": Option(
        (128, 64),
        "(height, width) of the small crops in pixels [TransReID-SSL, Luo et al., 2021]",
        at_least=8,
        length=2,
    ),
    "PRETRAIN.JITTER_PROB": Option(
        0.8, "probability of INPUT.COLOR_JITTER and HUE_JITTER in a crop [DINO]", at_least=0, at_most=1
    ),
    "PRETRAIN.BLUR": Option(
        True, "blur crops with probability 1 (first large crop), 0.1 (second) and 0.5 (small crops) [DINO]"
    ),
    "PRETRAIN.SOLARIZE": Option(
        0.2, "probability that the bright values of the second large crop are inverted [DINO]", at_least=0, at_most=1
    ),
    "PRETRAIN.PROTOTYPES": Option(
        8192, "outputs of the head, one per prototype [iBOT; DINO and TransReID-SSL have 65536]", at_least=2
    ),
    "PRETRAIN.HIDDEN_DIM": Option(2048, "width of the head's hidden layers [DINO]", at_least=1),
    "PRETRAIN.BOTTLENECK_DIM": Option(256, "width of the head before the prototypes [DINO]", at_least=1),
    "PRETRAIN.FREEZE_PROTOTYPES": Option(1, "first epochs in which the prototypes do not change [DINO]", at_least=0),
    "PRETRAIN.MASK_PROB": Option(0.5, "ibot: share of the large crops that are masked", at_least=0.01, at_most=1),
    "PRETRAIN.MASK_RATIO": Option(
        (0.1, 0.5), "ibot: share of their patches that is masked, least and most", at_least=0.01, at_most=0.99, length=2
    ),
    "PRETRAIN.PATCH_WEIGHT": Option(1.0, "ibot: weight of the loss of masked patches", at_least=0),
    "PRETRAIN.MOMENTUM": Option(
        0.996, "share of the teacher that a step keeps, at the start; it rises to 1 [DINO]", at_least=0, at_most=1
    ),
    "PRETRAIN.TEACHER_TEMP": Option(0.04, "temperature of the teacher's outputs [TransReID-SSL]", at_least=0.001),
    "PRETRAIN.WARMUP_TEMP": Option(0.04, "the same at the start", at_least=0.001),
    "PRETRAIN.WARMUP_TEMP_EPOCHS": Option(
        0, "epochs from WARMUP_TEMP to TEACHER_TEMP [DINO has 30 with TEACHER_TEMP 0.07]", at_least=0
    ),
    "PRETRAIN.STUDENT_TEMP": Option(0.1, "temperature of the student's outputs [DINO]", at_least=0.001),
    "PRETRAIN.CENTER_MOMENTUM": Option(
        0.9, "share of the centre of the teacher's outputs that a batch keeps [DINO]", at_least=0, at_most=1
    ),
    "PRETRAIN.WEIGHT_DECAY_END": Option(
        0.4, "weight decay at the end; SOLVER.WEIGHT_DECAY is that at the start [DINO]", at_least=0
    ),
    "PRETRAIN.PROBE_PERIOD": Option(
        10,
        "epochs between evaluations of the teacher's embeddings on labelled people: those of DATASETS.VAL_IDS, or query and gallery of "
        "DATASETS.TEST; the last epoch is evaluated too; 0 = never",
        at_least=0,
        resumable=True,
    ),
}
