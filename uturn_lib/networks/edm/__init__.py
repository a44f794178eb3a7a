"""The EDM networks of Karras et al. (2022): their architectures, and their pickled files read as
data."""
