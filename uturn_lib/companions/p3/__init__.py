"""Chen et al. (2023): the shape of sampling trajectories, and what follows for solvers."""
