"""What etsdm writes and reads: whole files or none, verified tensors, pictures."""
