"""The three companion studies, a folder for each paper.

p2: the parts of the U-Net. p3: trajectories and solvers. p4: the length of the diffusion.

:mod:`flows`, generations by the probability flow, is shared.
"""
