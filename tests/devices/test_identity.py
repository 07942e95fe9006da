from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort

from aebnas.devices.identity import identity_model


def test_the_input_comes_back():
    model = identity_model((2, 3))
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    value = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    (output,) = ort.InferenceSession(model).run(None, {"input": value})
    np.testing.assert_array_equal(output, value)
