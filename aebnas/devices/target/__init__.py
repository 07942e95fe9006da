"""What runs on the target device: standard library, numpy, onnxruntime and this package only; Python 3.8 or newer."""
