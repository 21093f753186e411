"""Attributes of people, such as a hat or the colour of the trousers: learnt from labelled people, predicted for rows of galleries."""

from .attribute_columns import fit_attributes, predict_attributes
from .attribute_heads import AttributeHeads
from .attribute_labels import AttributeLabels, read_labels

__all__ = ["AttributeHeads", "AttributeLabels", "fit_attributes", "predict_attributes", "read_labels"]
