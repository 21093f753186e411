"""Options of a run: optimizer, schedule, evaluation, output."""

from __future__ import annotations

from .options import Option

RUN_OPTIONS: dict[str, Option] = {
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
    "SOLVER.IMS_PER_BATCH": Option(64, "images (or clips, see DATALOADER.CLIP_FRAMES) per batch, P x K", at_least=1),
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
    "SOLVER.PATIENCE": Option(
        0,
        "evaluations without a better mAP of the people held out (DATASETS.VAL_IDS) after which training stops; 0 = never",
        at_least=0,
        resumable=True,
    ),
    "SOLVER.EVAL_PERIOD": Option(10, "epochs between evaluations; the last epoch is always evaluated", at_least=1),
    # --- test ---------------------------------------------------------------------------------------------------
    "TEST.IMS_PER_BATCH": Option(256, "images per batch when embeddings are extracted", at_least=1, resumable=True),
    "TEST.CLIP_FRAMES": Option(
        0,
        "frames of a tracklet, spread evenly over it, whose embeddings make that of the tracklet; 0 = all",
        at_least=0,
        resumable=True,
    ),
    "TEST.WEIGHT": Option(
        "",
        "weights to evaluate: best.safetensors, last.pth or a file of the original TransReID",
        resumable=True,
        is_path=True,
    ),
    "TEST.NECK_FEAT": Option(
        "before", "test embedding: before or after the BN-neck [TransReID: before]", ("before", "after"), resumable=True
    ),
    "TEST.FEAT_NORM": Option(True, "scale test embeddings to unit length", resumable=True),
    "TEST.FLIP": Option(False, "average the embeddings of each image and its mirror image", resumable=True),
    "TEST.GLOBAL_ONLY": Option(False, "JPM: use the global branch alone, five times smaller", resumable=True),
    "TEST.CAMERA_NORM": Option(
        "none",
        "remove what a camera's embeddings have in common, estimated from the gallery without labels: mean = subtract its mean; "
        "full = also divide by its spread [ICLR 2025, arXiv:2502.10195]",
        ("none", "mean", "full"),
        resumable=True,
    ),
    "TEST.NFC": Option(
        0,
        "nearest gallery items whose embeddings are added to an item, or to a query, if they are mutual neighbours; 0 = off, 2 is "
        "usual [Yuan et al., CVPR 2025]",
        at_least=0,
        resumable=True,
    ),
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
    "LOG.TRACKERS": Option(
        (),
        "experiment trackers in addition to TensorBoard: wandb = Weights & Biases, mlflow = MLflow",
        ("mlflow", "wandb"),
        is_open=True,
        resumable=True,
    ),
    "LOG.PROJECT": Option(
        "vitreid", "name of the project (wandb) or experiment (mlflow) at the trackers", resumable=True
    ),
    "OUTPUT_DIR": Option("logs/run", "the run folder", per_machine=True, resumable=True, is_path=True),
}
