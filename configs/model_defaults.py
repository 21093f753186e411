"""Options of the model and the losses."""

from __future__ import annotations

from .options import Option

MODEL_OPTIONS: dict[str, Option] = {
    # --- model: images (+ camera, view) -> embeddings -----------------------------------------------------------
    "MODEL.DEVICE": Option(
        "auto", "device to run on; auto takes cuda, then mps, then cpu", ("auto", "cuda", "mps", "cpu"), resumable=True
    ),
    "MODEL.NAME": Option(
        "vit_base_patch16_224.orig_in21k_ft_in1k",
        "backbone: the name of a timm model; the default carries the weights that TransReID starts from",
    ),
    "MODEL.PRETRAIN_CHOICE": Option(
        "imagenet",
        "initial weights: none = random; imagenet = PRETRAIN_PATH, or timm's weights of that name if it is empty; "
        "self = a re-ID checkpoint (ours or the original TransReID's) at PRETRAIN_PATH",
        ("none", "imagenet", "self"),
    ),
    "MODEL.PRETRAIN_PATH": Option(
        "",
        "file with the initial weights (.pth, .safetensors, .npz), or a folder of Hugging Face",
        per_machine=True,
        is_path=True,
    ),
    "MODEL.PRETRAIN_CLASSIFIERS": Option(
        False,
        "start from the ID classifiers of PRETRAIN_PATH too, to continue with the same people; its labels must number them in the "
        "order of their names or pids, as ours do (TransReID's do on Market-1501 and MSMT17)",
    ),
    "MODEL.STEM": Option(
        "patch",
        "patch embedding: patch = one convolution (ViT); conv = stride-2 convolutions down to the patch size, for "
        "training from scratch [Xiao et al., NeurIPS 2021]; resconv = the same with residual blocks; ics = TransReID-SSL's, "
        "with IBN [Luo et al., 2021]",
        ("patch", "conv", "resconv", "ics"),
    ),
    "MODEL.STRIDE_SIZE": Option(
        (16, 16),
        "step between patches (vertical, horizontal) in pixels; smaller than the patch = overlapping patches",
        at_least=1,
        length=2,
    ),
    "MODEL.EMBED_DIM": Option(0, "token width, in features; 0 = that of the named model", at_least=0),
    "MODEL.DEPTH": Option(0, "number of transformer blocks; 0 = that of the named model", at_least=0),
    "MODEL.NUM_HEADS": Option(0, "attention heads per block; 0 = that of the named model", at_least=0),
    "MODEL.MLP_RATIO": Option(
        0.0, "hidden width of a block's MLP over the token width; 0 = that of the named model", at_least=0
    ),
    "MODEL.PATCH_SIZE": Option(0, "a ViT's patch in pixels, as high as wide; 0 = that of the named model", at_least=0),
    "MODEL.ACTIVATION": Option(
        "",
        "activation of a ViT's blocks; empty = that of the named model. OpenAI's CLIP has quick_gelu, SigLIP gelu_tanh",
        ("", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu"),
    ),
    "MODEL.POOL": Option(
        "token",
        "what becomes the global feature of a ViT: the class token, or the mean of the patch tokens; gem = generalised mean "
        "with a learned exponent, for our resnet50_* [Radenovic et al., TPAMI 2019]",
        ("token", "avg", "gem"),
    ),
    "MODEL.DROP_PATH": Option(
        0.1, "stochastic depth rate of the last block, rising linearly from 0 [TransReID]", at_least=0, at_most=0.99
    ),
    "MODEL.DROP_OUT": Option(0.0, "dropout rate after projections and position embedding", at_least=0, at_most=0.99),
    "MODEL.ATT_DROP_RATE": Option(0.0, "dropout rate of the attention weights", at_least=0, at_most=0.99),
    "MODEL.NECK": Option(
        "bnneck",
        "bnneck = batch norm between the metric and the ID loss [Luo et al., CVPRW 2019]; no = none",
        ("bnneck", "no"),
    ),
    "MODEL.CLIP_POOL": Option(
        "mean",
        "how the frames of a clip or a tracklet make its embedding: mean = they weigh the same; attention = by a learned score "
        "[after Gao & Nevatia, 2018, arXiv:1805.02104]",
        ("mean", "attention"),
    ),
    "MODEL.SIE_CAMERA": Option(False, "side-information embedding of the camera [TransReID, section 3.4]"),
    "MODEL.SIE_VIEW": Option(False, "side-information embedding of the viewpoint"),
    "MODEL.SIE_COE": Option(3.0, "weight of the side-information embedding [TransReID]", at_least=0),
    "MODEL.SIE_TOKENS": Option(
        "all",
        "tokens that the side-information embedding is added to: all of them [TransReID], or the class token only [CLIP-ReID, "
        "Li et al., AAAI 2023]",
        ("all", "class"),
    ),
    "MODEL.SIE_FALLBACK": Option(
        "mean",
        "row used for a camera or view unseen in training: mean = the mean of the trained rows; unknown = a separate row, trained by SIE_DROPOUT",
        ("mean", "unknown"),
    ),
    "MODEL.SIE_DROPOUT": Option(0.0, "share of training images with hidden camera and view", at_least=0, at_most=1),
    "MODEL.JPM": Option(
        False, "jigsaw patch module: local branches on shifted and shuffled patches [TransReID, section 3.3]"
    ),
    "MODEL.SHIFT_NUM": Option(
        5,
        "JPM: tokens, class token included, before the cut: 5 moves 4 patches from the front to the end [TransReID]",
        at_least=0,
    ),
    "MODEL.SHUFFLE_GROUP": Option(2, "JPM: groups of the patch shuffle", at_least=1),
    "MODEL.NUM_PARTS": Option(4, "JPM: number of local branches", at_least=1),
    "MODEL.RE_ARRANGE": Option(True, "JPM: shift and shuffle the patches; False cuts them into parts in their order"),
    "MODEL.PROJECTION": Option(
        0,
        "width of a linear projection of each of a ViT's features, appended to it: 512 for CLIP-ReID's ViT-B/16; 0 = none",
        at_least=0,
    ),
    "MODEL.SEMANTIC_WEIGHT": Option(
        0.2,
        "solider_swin_*: weight of semantics (1) against appearance (0) in the features; 0.2 for re-ID [SOLIDER, Chen "
        "et al., CVPR 2023]",
        at_least=0,
        at_most=1,
    ),
    "MODEL.FREEZE_STEM": Option(
        False,
        "keep everything before the first block as loaded: patch, class and position embedding, or a CNN's stem; not the "
        "side-information embedding",
    ),
    "MODEL.FREEZE_BLOCKS": Option(
        0,
        "first blocks kept as loaded, their norms and dropout as at test time; with FREEZE_STEM and without SIE no gradient is "
        "computed for them. Blocks of other timm models are those of its layer groups",
        at_least=0,
    ),
    "MODEL.CHECKPOINT_BLOCKS": Option(
        False,
        "compute the inside of each block again in the backward pass instead of keeping it: less memory, about a third slower, "
        "the same gradients [Chen et al., 2016]",
    ),
    # --- loss: embeddings + labels -> named terms ---------------------------------------------------------------
    "LOSS.ID": Option(
        "softmax",
        "ID loss, one classifier per branch",
        ("softmax", "arcface", "cosface", "amsoftmax", "circle", "none"),
        is_open=True,
    ),
    "LOSS.ID_WEIGHT": Option(1.0, "weight of the ID loss", at_least=0),
    "LOSS.LABEL_SMOOTH": Option(
        0.0, "label smoothing of the ID loss: share of probability spread over all classes", at_least=0, at_most=0.99
    ),
    "LOSS.SCALE": Option(30.0, "ArcFace, CosFace, AM-Softmax, Circle: scale s of the logits [TransReID]", at_least=0),
    "LOSS.ID_MARGIN": Option(0.5, "ArcFace (radians), CosFace, AM-Softmax, Circle: margin m [TransReID]", at_least=0),
    "LOSS.METRIC": Option(
        "triplet",
        "metric loss: triplet = batch-hard [Hermans et al., 2017]; circle = circle loss of pairs [Sun et al., CVPR 2020]; none",
        ("triplet", "circle", "none"),
        is_open=True,
    ),
    "LOSS.METRIC_WEIGHT": Option(1.0, "weight of the metric loss", at_least=0),
    "LOSS.SOFT_MARGIN": Option(True, "triplet: log(1 + exp(d_ap - d_an)) instead of a fixed margin [TransReID]"),
    "LOSS.MARGIN": Option(0.3, "triplet: margin in embedding distance, if SOFT_MARGIN is False", at_least=0),
    "LOSS.PAIR_MARGIN": Option(
        0.25, "METRIC circle: margin m of the cosines [Sun et al., CVPR 2020, section 4.1]", at_least=0, at_most=1
    ),
    "LOSS.PAIR_SCALE": Option(128.0, "METRIC circle: scale gamma [Sun et al., CVPR 2020, section 4.1]", at_least=0),
    "LOSS.MEMORY": Option(
        0,
        "embeddings of past batches kept for the metric loss to compare with [cross-batch memory, Wang et al., CVPR 2020]; "
        "0 = off",
        at_least=0,
    ),
    "LOSS.MEMORY_START": Option(
        1000,
        "iterations before the past embeddings are used, which drift fast at first [Wang et al., CVPR 2020]",
        at_least=0,
    ),
    "LOSS.METRIC_NORM": Option(
        0.0,
        "length to which embeddings are scaled for the metric loss; 0 = as they are. Self-supervised ViTs start with lengths "
        "around 40, at which the soft margin of the triplet loss drowns the other terms",
        at_least=0,
    ),
    "LOSS.DISTILL": Option(
        "",
        "teacher: a model file (best.safetensors, .onnx, .xml, …) whose embeddings of the training images are learned, computed "
        "once and kept in OUTPUT_DIR/teacher.safetensors; or such a file; empty = none",
        per_machine=True,
        is_path=True,
    ),
    "LOSS.DISTILL_WEIGHT": Option(
        1.0, "DISTILL: weight of 1 - cosine to the teacher's embedding, after a learned projection", at_least=0
    ),
    "LOSS.RELATION_WEIGHT": Option(
        1.0, "DISTILL: weight of the squared difference of the cosines of all pairs of the batch", at_least=0
    ),
    "LOSS.CENTER_WEIGHT": Option(
        0.0, "weight of the center loss [Wen et al., ECCV 2016]; 0 = off; 0.0005 is usual", at_least=0
    ),
}
