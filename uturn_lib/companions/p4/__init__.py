"""Franzese et al.

(2023): how long the diffusion must be, and which law to start a short one from.
"""
