"""Options of training without labels: clusters of the training images as classes."""

from __future__ import annotations

from .options import Option

UNSUPERVISED_OPTIONS: dict[str, Option] = {
    "UNSUPERVISED.CLUSTERING": Option(
        "none",
        "train without labels, on clusters of the images: dbscan = density clusters of the k-reciprocal Jaccard distance [Cluster "
        "Contrast, Dai et al., ACCV 2022]; linkage = the grouping of vitreid identities; none = the people in the data",
        ("none", "dbscan", "linkage"),
        is_open=True,
    ),
    "UNSUPERVISED.EPS": Option(
        0.0,
        "distance, 0 to 1, up to which images are neighbours (dbscan) or groups merge (linkage); 0 = 0.6 [Cluster Contrast] or 0.78",
        at_least=0,
        at_most=0.99,
    ),
    "UNSUPERVISED.MIN_SAMPLES": Option(
        4, "dbscan: neighbours, itself included, of an image in the core of a cluster [Cluster Contrast]", at_least=1
    ),
    "UNSUPERVISED.MIN_SIZE": Option(
        2, "images of the smallest cluster; those of smaller ones are outliers", at_least=2
    ),
    "UNSUPERVISED.K1": Option(30, "neighbours considered per image [Cluster Contrast]", at_least=1),
    "UNSUPERVISED.K2": Option(6, "neighbours in the local query expansion [Cluster Contrast]", at_least=1),
    "UNSUPERVISED.CAMERA_NORM": Option(
        "auto",
        "remove what a camera's embeddings have in common before they are clustered, as TEST.CAMERA_NORM; auto = full if there are "
        "several cameras with enough images",
        ("auto", "none", "mean", "full"),
    ),
    "UNSUPERVISED.WHITEN": Option(
        0.5,
        "exponent of the standard deviation by which each principal axis of the embeddings is divided before they are clustered; 1 = PCA "
        "whitening [Jégou & Chum, ECCV 2012], 0 = off; not applied below 10 images per feature",
        at_least=0.0,
        at_most=1.0,
    ),
    "UNSUPERVISED.TIME_WEIGHT": Option(
        0.05,
        "how much the time between two images counts next to their cosine (column time of a manifest; frames of Market-1501 and "
        "DukeMTMC-reID), by the times that people take between cameras, which are learned from images that look similar [TFusion, Lv et "
        "al., CVPR 2018]; 0 = not",
        at_least=0.0,
        at_most=10.0,
    ),
    "UNSUPERVISED.TRACKLETS": Option(
        True, "images of one tracklet (column of a manifest) are one person, whatever their embeddings are"
    ),
    "UNSUPERVISED.CANNOT_LINKS": Option(
        True,
        "two tracklets that a camera saw at the same time (columns time, end_time or frame of a manifest; frames of Market-1501 and "
        "DukeMTMC-reID) are two people, whatever their embeddings are; two images without a tracklet too, unless they look similar",
    ),
    "UNSUPERVISED.PERIOD": Option(1, "epochs between clusterings [Cluster Contrast]", at_least=1),
    "UNSUPERVISED.ITERATIONS": Option(0, "batches per epoch; 0 = as many as all training images fill", at_least=0),
    "UNSUPERVISED.OUTLIERS": Option(
        "drop",
        "images in no cluster: drop = not used until the next clustering [Cluster Contrast]; instances = each is a class [SpCL, Ge "
        "et al., NeurIPS 2020]",
        ("drop", "instances"),
    ),
    "UNSUPERVISED.WEIGHT": Option(1.0, "weight of the loss against the clusters' centroids; 0 = off", at_least=0),
    "UNSUPERVISED.TEMPERATURE": Option(
        0.05, "divisor of the cosines to the centroids [Cluster Contrast]", at_least=0.001
    ),
    "UNSUPERVISED.MOMENTUM": Option(
        0.1, "share of a centroid that the update by an image keeps [Cluster Contrast]", at_least=0, at_most=1
    ),
    "UNSUPERVISED.UPDATE": Option(
        "all",
        "images that update their centroid: all = each of a batch; hardest = of each cluster the one farthest from it [Cluster "
        "Contrast]",
        ("all", "hardest"),
    ),
    "UNSUPERVISED.PROXIES": Option(
        "none",
        "camera = a centroid per cluster and camera: each image against those of its camera, and against those of its cluster in other "
        "cameras [CAP, Wang et al., AAAI 2021, with a temperature of 0.07 and a momentum of 0.2]; none = a centroid per cluster",
        ("none", "camera"),
    ),
    "UNSUPERVISED.INTER_WEIGHT": Option(
        0.5, "PROXIES camera: weight of the loss across cameras, next to that within cameras [CAP]", at_least=0
    ),
    "UNSUPERVISED.NEGATIVES": Option(
        50, "PROXIES camera: centroids of other clusters, the nearest, in the loss across cameras [CAP]", at_least=1
    ),
    "UNSUPERVISED.SOURCE": Option(
        (),
        "labelled data sets that are trained on in the same run: their people are classes next to the clusters of NAMES, and half of each "
        "batch [SpCL, Ge et al., NeurIPS 2020, without its measure of reliable clusters]; empty = none",
    ),
    "UNSUPERVISED.SOURCE_DIR": Option(
        "",
        "folder that holds the folders of SOURCE (or is one of them); empty = DATASETS.ROOT_DIR",
        per_machine=True,
        resumable=True,
        is_path=True,
    ),
    "UNSUPERVISED.PATIENCE": Option(
        0,
        "clusterings without a better score, which needs no labels, after which training stops; 0 = never",
        at_least=0,
        resumable=True,
    ),
}
