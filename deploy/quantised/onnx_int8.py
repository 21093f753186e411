"""INT8 in ONNX: static quantisation by ONNX Runtime, a pair of QuantizeLinear and DequantizeLinear at each product."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .int8_recipe import CAREFUL, Int8Recipe

PRODUCTS = ("MatMul", "Gemm", "Conv")


def quantise_onnx(source: Path, target: Path, recipe: Int8Recipe) -> None:
    """Write `source` with weights per channel and activations in 8 bits.

    Weights use 7 of the 8 bits: sums of the products of two bytes would overflow on processors without VNNI, and the comparison
    would hold on the others only. In a transformer only products with weights are quantised, and their results stay in float32: softmax, layer norms, GELU and
    attention's own products lose too much. In a CNN everything between convolutions is quantised too, so that they run in a row.

    Args:
        source: float32 file with a variable or fixed batch; may be `target`.
        recipe: crops in the order of the file's inputs.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_name(f"{target.name}.prepared")
    with _quiet():
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared)).graph
        is_transformer = any(node.op_type in ("Softmax", "LayerNormalization") for node in graph.node)
        extra = {"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": list(PRODUCTS)}
        quantize_static(
            str(prepared),
            str(target),
            _Reader(graph, recipe),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS) if is_transformer else None,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_left_in_float(graph) if recipe.level == CAREFUL else [],
            extra_options=extra if is_transformer else {},
        )
    prepared.unlink()


def _left_in_float(graph: Any) -> list[str]:
    """Return the first and the last product with weights, and of a transformer those that read the output of a GELU."""
    weights = {item.name for item in graph.initializer}
    products = [node for node in graph.node if node.op_type in PRODUCTS and weights & set(node.input)]
    makers = {output: node for node in graph.node for output in node.output}
    chosen = {products[0].name, products[-1].name} if products else set()
    return sorted(chosen | {node.name for node in products if _is_gelu(makers.get(node.input[0]), makers)})


def _is_gelu(node: Any, makers: dict[str, Any]) -> bool:
    """Return whether a node is the last one of a GELU, written as `Gelu` or as products with `Erf` or `Tanh`."""
    if node is None or node.op_type == "Gelu":
        return node is not None
    before = [makers.get(name) for name in node.input] if node.op_type == "Mul" else []
    before += [makers.get(name) for near in before if near is not None for name in near.input]
    before += [makers.get(name) for near in before if near is not None for name in near.input]
    return any(near is not None and near.op_type in ("Erf", "Tanh") for near in before)


class _Reader:
    """Calibration batches as ONNX Runtime reads them: a dict at each call, then None."""

    def __init__(self, graph: Any, recipe: Int8Recipe) -> None:
        weights = {item.name for item in graph.initializer}
        inputs = [item for item in graph.input if item.name not in weights]
        size = inputs[0].type.tensor_type.shape.dim[0].dim_value  # 0 = any
        self._names = [item.name for item in inputs]
        self._batches = recipe.batches(size) if size else recipe.batches()

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by the names of the inputs, None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else dict(zip(self._names, batch, strict=True))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what is left."""
        while (batch := self.get_next()) is not None:
            yield batch


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings that are logged on the root logger: they are about preparing the file, which is done here."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
