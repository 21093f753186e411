"""INT8 in OpenVINO: post-training quantisation by NNCF."""

from __future__ import annotations

import logging
from typing import Any

from ...common.errors import MissingPackageError
from .int8_recipe import CAREFUL, Int8Recipe


def check_nncf() -> None:
    """Raise MissingPackageError, with the command that installs it, if NNCF is missing."""
    try:
        import nncf  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f'--int8: OpenVINO files are quantised by nncf: pip install "vitreid[int8]", or export ONNX ({error})'
        ) from error


def quantise_openvino(model: Any, recipe: Int8Recipe) -> Any:
    """Return an OpenVINO model with weights and activations of products and convolutions in 8 bits.

    Transformers are recognised by their softmax: NNCF then leaves softmax, layer norms and GELU in float32 and smooths activations.

    Args:
        model: float32 `openvino.Model`.
        recipe: crops in the order of the model's inputs.
    """
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    kinds = {node.get_type_name() for node in model.get_ordered_ops()}
    size = model.inputs[0].partial_shape[0]
    batches = list(recipe.batches() if size.is_dynamic else recipe.batches(size.get_length()))
    return nncf.quantize(
        model,
        nncf.Dataset(batches, lambda batch: list(batch)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
        model_type=nncf.ModelType.TRANSFORMER if "Softmax" in kinds or "MVN" in kinds else None,
        ignored_scope=_left_in_float(model, nncf) if recipe.level == CAREFUL else None,
    )


def _left_in_float(model: Any, nncf: Any) -> Any:
    """Return the first and the last product with weights, and those that read the output of a GELU."""
    found = [node for node in model.get_ordered_ops() if node.get_type_name() in ("MatMul", "Convolution")]
    found = [node for node in found if _is_constant(node.input_value(1).get_node())]
    behind = [node for node in found if node.input_value(0).get_node().get_type_name() == "Gelu"]
    chosen = {node.get_friendly_name() for node in (*found[:1], *found[-1:], *behind)}
    return nncf.IgnoredScope(names=sorted(chosen))


def _is_constant(node: Any) -> bool:
    """Return whether a value is a weight, perhaps behind a conversion of its type, shape or order."""
    while node.get_type_name() in ("Convert", "Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant"
