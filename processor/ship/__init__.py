"""A checkpoint as a file for other runtimes: ONNX, TorchScript, torch.export, OpenVINO; compared before it is kept."""

from .agreement import Agreement, Tolerance
from .formats import FORMATS
from .inputs import INPUTS
from .job import TRACKERS, Order, Shipped, ship
from .latency import Latency

__all__ = ["FORMATS", "INPUTS", "TRACKERS", "Agreement", "Latency", "Order", "Shipped", "Tolerance", "ship"]
