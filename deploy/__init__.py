"""A checkpoint as a file for other runtimes: ONNX, TorchScript, torch.export, OpenVINO; compared before it is kept."""

from .export_request import TRACKERS, ExportRequest
from .exporter import ExportedModel, export_model
from .formats import FORMATS
from .input_names import INPUTS
from .parity import Agreement, Tolerance
from .parity_check import Latency

# earlier names, kept for existing imports
Order = ExportRequest
Shipped = ExportedModel
ship = export_model

__all__ = [
    "FORMATS",
    "INPUTS",
    "TRACKERS",
    "Agreement",
    "ExportRequest",
    "ExportedModel",
    "Latency",
    "Order",
    "Shipped",
    "Tolerance",
    "export_model",
    "ship",
]
