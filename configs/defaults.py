"""Every option of vitreid, once: default, meaning, unit, accepted values, source.

The defaults are TransReID's published recipe (He et al., ICCV 2021, section 4.2, and its released YAML files) for
the plain ViT-Base baseline. A recipe in `configs/*/*.yml` states only its differences.
"""

from __future__ import annotations

from .options import Option

OPTIONS: dict[str, Option] = {
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
    "MODEL.PRETRAIN_PATH": Option("", "file with the initial weights (.pth, .safetensors)", per_machine=True),
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
    "LOSS.CENTER_WEIGHT": Option(
        0.0, "weight of the center loss [Wen et al., ECCV 2016]; 0 = off; 0.0005 is usual", at_least=0
    ),
    # --- input: pixels and augmentation -------------------------------------------------------------------------
    "INPUT.SIZE_TRAIN": Option((256, 128), "training crop (height, width) in pixels [TransReID]", at_least=1, length=2),
    "INPUT.SIZE_TEST": Option(
        (256, 128), "test crop (height, width) in pixels; must equal SIZE_TRAIN for a ViT", at_least=1, length=2
    ),
    "INPUT.PROB": Option(0.5, "probability of a horizontal flip", at_least=0, at_most=1),
    "INPUT.PADDING": Option(10, "zero padding before the random crop, in pixels [TransReID]", at_least=0),
    "INPUT.RE_PROB": Option(0.5, "probability of random erasing [Zhong et al., AAAI 2020]", at_least=0, at_most=1),
    "INPUT.RE_MODE": Option(
        "pixel",
        "random erasing fills with: pixel = noise per pixel; channel = noise per channel; constant = 0",
        ("pixel", "channel", "constant"),
    ),
    "INPUT.COLOR_JITTER": Option(
        0.0,
        "strength of brightness, contrast and saturation jitter: factors drawn from 1 ± this",
        at_least=0,
        at_most=1,
    ),
    "INPUT.HUE_JITTER": Option(
        0.0, "hues are turned by up to this share of the colour circle, either way", at_least=0, at_most=0.5
    ),
    "INPUT.GRAY_PROB": Option(0.0, "probability that an image loses its colours", at_least=0, at_most=1),
    "INPUT.LOCAL_GRAY_PROB": Option(
        0.0,
        "probability that a box of 2 to 40 % of an image loses its colours [Gong et al., 2021, arXiv:2101.08783]",
        at_least=0,
        at_most=1,
    ),
    "INPUT.AUTO_AUGMENT_PROB": Option(
        0.0,
        "probability of one change of shape or colour, drawn with its strength for each image: rotate, shear, translate, "
        "brightness, contrast, saturation, sharpness, posterize, solarize, autocontrast [after Müller & Hutter, ICCV 2021]",
        at_least=0,
        at_most=1,
    ),
    "INPUT.PIXEL_MEAN": Option((0.5, 0.5, 0.5), "mean subtracted per RGB channel, pixels in 0-1 [TransReID]", length=3),
    "INPUT.PIXEL_STD": Option(
        (0.5, 0.5, 0.5), "divisor per RGB channel, pixels in 0-1 [TransReID]", at_least=1e-6, length=3
    ),
    "INPUT.INTERPOLATION": Option(
        "auto", "resize filter: auto = bicubic to enlarge and area to shrink", ("auto", "bilinear", "bicubic", "area")
    ),
    # --- datasets: names and folders -> records -----------------------------------------------------------------
    "DATASETS.NAMES": Option(
        ("market1501",), "training sets; several are joined: market1501, dukemtmc, msmt17, synthetic, manifest, folder"
    ),
    "DATASETS.BALANCE": Option(
        "none",
        "share of each of several NAMES in every batch and epoch: none = by its images; equal = the same for each; sqrt = by "
        "the square root of its images",
        ("none", "equal", "sqrt"),
    ),
    "DATASETS.TEST": Option(
        (),
        "test sets by name; empty = the first of NAMES. Training evaluates the first of them, vitreid test each",
    ),
    "DATASETS.ROOT_DIR": Option(
        "data", "folder that holds the data sets' folders (or is one of them)", per_machine=True, resumable=True
    ),
    "DATASETS.MANIFEST": Option(
        "", "manifest: the CSV file with the columns path, pid, camid, split and optionally viewid", per_machine=True
    ),
    "DATASETS.CAMERA_PATTERN": Option(
        "", "folder, and manifest without camid: regular expression whose first group is the camera in an image's path"
    ),
    "DATASETS.SPLIT_SEED": Option(0, "seed of the automatic splits (folder layout, validation identities)", at_least=0),
    "DATASETS.TEST_SHARE": Option(
        0.5, "folder layout: share of the identities held out for query and gallery", at_least=0.01, at_most=0.99
    ),
    "DATASETS.VAL_IDS": Option(
        0, "training identities held out and evaluated instead of the test set, for tuning; 0 = none", at_least=0
    ),
    "DATASETS.DISTRACTORS": Option(
        "",
        "folder of images of nobody who is queried (Market-1501+500k), with its sub-folders: added to the gallery of every "
        "test set, not of validation people; empty = none",
        per_machine=True,
    ),
    "DATASETS.CORRUPT": Option(
        "error", "an unreadable image: error = stop and name it; skip = leave it out and count it", ("error", "skip")
    ),
    # --- loading ------------------------------------------------------------------------------------------------
    "DATALOADER.SAMPLER": Option(
        "pk", "training batches: pk = P identities x NUM_INSTANCE images; shuffle = any images", ("pk", "shuffle")
    ),
    "DATALOADER.NUM_INSTANCE": Option(4, "K, images per identity in a pk batch [TransReID]", at_least=1),
    "DATALOADER.NUM_WORKERS": Option(
        2,
        "threads that load and augment the next batches; 0 = the training thread",
        at_least=0,
        per_machine=True,
        resumable=True,
    ),
    "DATALOADER.CACHE": Option(
        "auto",
        "keep decoded, resized images in memory: auto = if they fit CACHE_SHARE",
        ("auto", "on", "off"),
        per_machine=True,
        resumable=True,
    ),
    "DATALOADER.CACHE_SHARE": Option(
        0.25,
        "largest share of the available memory for all decoded images",
        at_least=0,
        at_most=1,
        per_machine=True,
        resumable=True,
    ),
    # --- solver: parameters -> steps ----------------------------------------------------------------------------
    "SOLVER.OPTIMIZER_NAME": Option("SGD", "optimizer", ("SGD", "Adam", "AdamW"), is_open=True),
    "SOLVER.BASE_LR": Option(0.008, "learning rate after the warm-up [TransReID]", at_least=0),
    "SOLVER.MOMENTUM": Option(0.9, "SGD momentum", at_least=0, at_most=0.9999),
    "SOLVER.WEIGHT_DECAY": Option(1e-4, "weight decay [TransReID]", at_least=0),
    "SOLVER.WEIGHT_DECAY_BIAS": Option(1e-4, "weight decay of biases [TransReID]", at_least=0),
    "SOLVER.BIAS_LR_FACTOR": Option(2.0, "learning-rate factor of biases [TransReID]", at_least=0),
    "SOLVER.HEAD_LR_FACTOR": Option(1.0, "learning-rate factor of the ID classifiers", at_least=0),
    "SOLVER.NO_DECAY": Option(False, "no weight decay on norms, biases and the position, class and SIE embeddings"),
    "SOLVER.LAYER_DECAY": Option(
        1.0,
        "learning-rate factor per layer from the top down: heads and neck 1, the last block this, the one before this squared, "
        "the embeddings least [ELECTRA, Clark et al., ICLR 2020; BEiT, Bao et al., ICLR 2022]; 1 = off, 0.65-0.8 is usual",
        at_least=0.01,
        at_most=1,
    ),
    "SOLVER.HEAD_EPOCHS": Option(
        0,
        "first epochs that train the neck and the classifiers only, the backbone as at test time; 0 = off",
        at_least=0,
    ),
    "SOLVER.CENTER_LR": Option(
        0.5, "learning rate of the center loss's centres (own SGD, constant) [Luo et al.]", at_least=0
    ),
    "SOLVER.MAX_EPOCHS": Option(120, "epochs", at_least=1),
    "SOLVER.SCHEDULE": Option("cosine", "learning rate after the warm-up", ("cosine", "multistep"), is_open=True),
    "SOLVER.PER_ITERATION": Option(
        False, "change the learning rate every iteration instead of every epoch (TransReID: every epoch)"
    ),
    "SOLVER.WARMUP_EPOCHS": Option(5, "epochs of linear warm-up [TransReID]", at_least=0),
    "SOLVER.WARMUP_FACTOR": Option(
        0.01, "learning-rate factor at the start of the warm-up [TransReID]", at_least=0, at_most=1
    ),
    "SOLVER.MIN_LR_FACTOR": Option(0.002, "cosine: learning-rate factor at the end [TransReID]", at_least=0, at_most=1),
    "SOLVER.STEPS": Option((40, 70), "multistep: epochs after which the rate is multiplied by GAMMA", at_least=1),
    "SOLVER.GAMMA": Option(0.1, "multistep: factor at each step", at_least=0, at_most=1),
    "SOLVER.IMS_PER_BATCH": Option(64, "images per batch, P x K", at_least=1),
    "SOLVER.ACCUMULATE": Option(1, "batches per step; their gradients are averaged", at_least=1),
    "SOLVER.MICRO_BATCH": Option(
        0,
        "images embedded at once, per process, for devices that do not hold a batch; losses and gradients stay those of the "
        "whole batch [gradient caching, Gao et al., RepL4NLP 2021]; 0 = all",
        at_least=0,
    ),
    "SOLVER.FSDP": Option(
        False,
        "several processes: keep a part of weights, gradients and optimizer state on each (FSDP2, torch 2.6 or newer), for large "
        "backbones; False = a copy on each (DDP)",
    ),
    "SOLVER.PRECISION": Option(
        "auto", "auto = bf16 where the device has it, else fp16 (cuda) or fp32", ("auto", "bf16", "fp16", "fp32")
    ),
    "SOLVER.GRAD_CLIP": Option(0.0, "largest norm of the gradient; 0 = no clipping", at_least=0),
    "SOLVER.EMA": Option(
        0.0,
        "decay per step of the averaged weights that are evaluated and saved as best; 0 = off",
        at_least=0,
        at_most=0.99999,
    ),
    "SOLVER.SWA_START": Option(
        0,
        "epoch from which the weights of all steps are averaged equally, to be evaluated and saved as best [Izmailov et al., UAI "
        "2018]; 0 = off",
        at_least=0,
    ),
    "SOLVER.SEED": Option(1234, "seed of weights, batches and augmentation [TransReID]", at_least=0),
    "SOLVER.LOG_PERIOD": Option(
        50, "iterations between updates of the progress bar's numbers", at_least=1, resumable=True
    ),
    "SOLVER.CHECKPOINT_PERIOD": Option(1, "epochs between writes of last.pth", at_least=1, resumable=True),
    "SOLVER.CHECKPOINT_STEPS": Option(
        0, "iterations between writes of last.pth inside an epoch; 0 = none", at_least=0, resumable=True
    ),
    "SOLVER.KEEP_LAST": Option(
        1, "number of newest epochs kept as last_epoch_NNN.pth; 0, 1 = only last.pth", at_least=0, resumable=True
    ),
    "SOLVER.SKIP_NONFINITE": Option(
        0,
        "batches of the run that may be left out because their loss is not a number; 0 = stop at the first. Above 0 every "
        "iteration waits for its loss",
        at_least=0,
        resumable=True,
    ),
    "SOLVER.COMPILE": Option(
        False, "torch.compile of the backbone: a minute or more at the start; faster on GPUs only", resumable=True
    ),
    "SOLVER.EVAL_PERIOD": Option(10, "epochs between evaluations; the last epoch is always evaluated", at_least=1),
    # --- test ---------------------------------------------------------------------------------------------------
    "TEST.IMS_PER_BATCH": Option(256, "images per batch when embeddings are extracted", at_least=1, resumable=True),
    "TEST.WEIGHT": Option(
        "", "weights to evaluate: best.safetensors, last.pth or a file of the original TransReID", resumable=True
    ),
    "TEST.NECK_FEAT": Option(
        "before", "test embedding: before or after the BN-neck [TransReID: before]", ("before", "after"), resumable=True
    ),
    "TEST.FEAT_NORM": Option(True, "scale test embeddings to unit length", resumable=True),
    "TEST.FLIP": Option(False, "average the embeddings of each image and its mirror image", resumable=True),
    "TEST.GLOBAL_ONLY": Option(False, "JPM: use the global branch alone, five times smaller", resumable=True),
    "TEST.RERANK": Option(
        "none",
        "what follows the plain ranking: k-reciprocal = re-rank by shared neighbours [Zhong et al., CVPR 2017]; aqe = queries "
        "averaged with their nearest gallery items [Chum et al., ICCV 2007]; dba = gallery items averaged with theirs "
        "[Arandjelović & Zisserman, CVPR 2012]; dba+aqe = dba, then aqe",
        ("none", "k-reciprocal", "aqe", "dba", "dba+aqe"),
        is_open=True,
        resumable=True,
    ),
    "TEST.RERANK_K1": Option(20, "re-ranking: neighbours considered per crop", at_least=1, resumable=True),
    "TEST.RERANK_K2": Option(6, "re-ranking: neighbours in the local query expansion", at_least=1, resumable=True),
    "TEST.RERANK_LAMBDA": Option(
        0.3, "re-ranking: share of the original distance in the final one", at_least=0, at_most=1, resumable=True
    ),
    "TEST.QE_K": Option(
        10, "aqe, dba: neighbours averaged, in addition to the vector itself", at_least=1, resumable=True
    ),
    "TEST.QE_ALPHA": Option(
        3.0,
        "aqe, dba: weight of a neighbour = similarity ** this; 0 = plain average [Radenović et al., TPAMI 2019]",
        at_least=0,
        resumable=True,
    ),
    "TEST.FMR": Option(
        1e-3,
        "false-match rate of the distance threshold that training with VAL_IDS stores in best.safetensors: the share of pairs of "
        "different people that it takes for one",
        at_least=1e-9,
        at_most=0.5,
        resumable=True,
    ),
    "OUTPUT_DIR": Option("logs/run", "the run folder", per_machine=True, resumable=True),
}
