"""Config section `MODEL` -> model with initial weights."""

from __future__ import annotations

from collections.abc import Sequence

from yacs.config import CfgNode

from .layer_depth import freeze
from .model_spec import ModelSpec
from .reid_model import ReidModel
from .weights.pretrained import load_initial


def build_model(cfg: CfgNode, cameras: Sequence[str], views: Sequence[str] = ()) -> ReidModel:
    """Return the model that `cfg.MODEL` describes.

    Args:
        cameras, views: names in the training set, in the order of the rows of the side-information table.
    Raises:
        FileNotFoundError, ConnectionError: the initial weights are missing.
        ValueError: options that do not go together, or weights of another model.
    """
    model = ReidModel(build_spec(cfg, cameras, views))
    load_initial(model, cfg.MODEL.PRETRAIN_CHOICE, cfg.MODEL.PRETRAIN_PATH)
    if cfg.MODEL.FREEZE_STEM or cfg.MODEL.FREEZE_BLOCKS:
        freeze(model.backbone, cfg.MODEL.FREEZE_STEM, cfg.MODEL.FREEZE_BLOCKS)
    if cfg.MODEL.CHECKPOINT_BLOCKS:
        model.backbone.checkpoint_blocks()
    return model


def build_spec(cfg: CfgNode, cameras: Sequence[str], views: Sequence[str] = ()) -> ModelSpec:
    """Return the architecture that `cfg.MODEL` describes."""
    node = cfg.MODEL
    return ModelSpec(
        name=node.NAME,
        img_size=cfg.INPUT.SIZE_TRAIN,
        stride=node.STRIDE_SIZE,
        stem=node.STEM,
        embed_dim=node.EMBED_DIM,
        depth=node.DEPTH,
        num_heads=node.NUM_HEADS,
        mlp_ratio=node.MLP_RATIO,
        pool=node.POOL,
        drop_path=node.DROP_PATH,
        drop_out=node.DROP_OUT,
        att_drop_rate=node.ATT_DROP_RATE,
        neck=node.NECK,
        sie_camera=node.SIE_CAMERA,
        sie_view=node.SIE_VIEW,
        sie_coe=node.SIE_COE,
        sie_fallback=node.SIE_FALLBACK,
        sie_dropout=node.SIE_DROPOUT,
        cameras=tuple(cameras),
        views=tuple(views),
        jpm=node.JPM,
        shift_num=node.SHIFT_NUM,
        shuffle_group=node.SHUFFLE_GROUP,
        num_parts=node.NUM_PARTS,
        re_arrange=node.RE_ARRANGE,
        sie_tokens=node.SIE_TOKENS,
        projection=node.PROJECTION,
        semantic_weight=node.SEMANTIC_WEIGHT,
        patch_size=node.PATCH_SIZE,
        activation=node.ACTIVATION,
        clip_pool=node.CLIP_POOL,
    )
