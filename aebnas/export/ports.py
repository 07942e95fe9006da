"""What the inputs and outputs of blocks are called; no torch and no onnx in here, for they are used on the target."""

from __future__ import annotations

# Of every block: the image, or the tensor at an attach point.
INPUT = "input"
# Of the single file that takes 8-bit pixels, instead of that.
IMAGE = "image"
# What else an exit takes, from the exit before it: a cascaded branch its logits, a stateful measure its state.
PREVIOUS, STATE = "previous", "state"
LOGITS, LABEL, CONFIDENCE = "logits", "label", "confidence"
# The state that an exit hands on; a graph cannot call an output as it calls an input.
NEXT_STATE = "next_state"
EXIT = "exit"
