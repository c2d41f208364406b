"""Exports of a denoiser to the files of other programs, one file a kind."""
