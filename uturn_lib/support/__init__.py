"""Helpers that know nothing of diffusion: checks of arguments, files and folders, progress bars."""
