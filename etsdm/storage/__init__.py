"""Files, tensors and images on disk: atomic writes, checksums, PNG."""
