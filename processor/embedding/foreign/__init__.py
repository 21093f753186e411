"""Finished models in files of other runtimes (ONNX, OpenVINO, TorchScript) as embedders."""
