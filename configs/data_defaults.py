"""Options of the images: pixels, augmentation, data sets, loading."""

from __future__ import annotations

from .options import Option

DATA_OPTIONS: dict[str, Option] = {
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
    "DATASETS.TRAIN_PARTS": Option(
        "train",
        "what of NAMES is trained on: train = their training parts; all = the people that are queried in them too, who cannot be "
        "tested on then (models for data sets that were never seen)",
        ("train", "all"),
    ),
    "DATASETS.TEST": Option(
        (),
        "test sets by name, which need not be among NAMES; empty = the first of NAMES. Training evaluates the first of them, "
        "a test each",
    ),
    "DATASETS.ROOT_DIR": Option(
        "data",
        "folder that holds the data sets' folders (or is one of them)",
        per_machine=True,
        resumable=True,
        is_path=True,
    ),
    "DATASETS.MANIFEST": Option(
        "",
        "manifest: the CSV file with the columns path, pid, camid, split and optionally viewid, tracklet, clothes, and time, end_time or frame",
        per_machine=True,
        is_path=True,
    ),
    "DATASETS.CAMERA_PATTERN": Option(
        "", "folder, and manifest without camid: regular expression whose first group is the camera in an image's path"
    ),
    "DATASETS.SPLIT_SEED": Option(
        0,
        "seed of the automatic splits (folder layout, validation identities, viper, prid); number of the split of grid, cuhk03-…, "
        "ilids-vid and prid-video",
        at_least=0,
    ),
    "DATASETS.TEST_SHARE": Option(
        0.5, "folder layout: share of the identities held out for query and gallery", at_least=0.01, at_most=0.99
    ),
    "DATASETS.VAL_IDS": Option(
        0, "training identities held out and evaluated instead of the test set, for tuning; 0 = none", at_least=0
    ),
    "DATASETS.DISTRACTORS": Option(
        "",
        "folder of images of nobody who is queried (Market-1501+500k), searched with its sub-folders and added to the gallery "
        "of every test set; empty = none. Validation people are evaluated without them",
        per_machine=True,
        is_path=True,
    ),
    "DATASETS.CORRUPT": Option(
        "error", "an unreadable image: error = stop and name it; skip = leave it out and count it", ("error", "skip")
    ),
    # --- loading ------------------------------------------------------------------------------------------------
    "DATALOADER.SAMPLER": Option(
        "pk", "training batches: pk = P identities x NUM_INSTANCE images; shuffle = any images", ("pk", "shuffle")
    ),
    "DATALOADER.NUM_INSTANCE": Option(4, "K, images per identity in a pk batch [TransReID]", at_least=1),
    "DATALOADER.CLIP_FRAMES": Option(
        1,
        "data sets of video: frames of a tracklet that are trained on as one item, a clip; the frames' embeddings are pooled "
        "(MODEL.CLIP_POOL) before the losses. A batch has SOLVER.IMS_PER_BATCH clips",
        at_least=1,
    ),
    "DATALOADER.CLIP_SAMPLING": Option(
        "segments",
        "frames of a clip: segments = a random one of each of CLIP_FRAMES equal parts of the tracklet [Wang et al., ECCV 2016]; random = "
        "any; evenly = always the same, spread over the tracklet",
        ("segments", "random", "evenly"),
    ),
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
}
