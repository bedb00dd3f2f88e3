"""Text, token ids and where they lie; no tensors, no model."""
