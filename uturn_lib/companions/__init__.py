"""The three companion studies, a folder for each paper: what the U-Net's parts do (p2), how trajectories move (p3), how long the diffusion must be (p4).

What several of them need lies beside the folders: generations by the probability flow (:mod:`flows`).
"""
