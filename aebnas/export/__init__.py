"""Writing an early-exit network as ONNX, and running what was written."""
