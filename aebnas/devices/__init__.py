"""Hardware profiles, and measuring ONNX blocks on the device they describe; no torch in here."""
