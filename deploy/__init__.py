"""A checkpoint as a file for other runtimes: ONNX, TorchScript, torch.export, OpenVINO; compared before it is kept."""

from .exporter import TRACKERS, Order, Shipped, ship
from .formats import FORMATS
from .input_names import INPUTS
from .latency import Latency
from .parity import Agreement, Tolerance

__all__ = ["FORMATS", "INPUTS", "TRACKERS", "Agreement", "Latency", "Order", "Shipped", "Tolerance", "ship"]
