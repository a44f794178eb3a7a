"""What pyproject.toml cannot say: large weights stay out of the wheel.

They are fetched when asked for: ``networks.checkpoints.shipped_weights``.
"""

import os

from setuptools import setup
from setuptools.command.build_py import build_py

LARGEST = 10_000_000  # bytes of a file


class SmallFiles(build_py):
    def find_data_files(self, package, src_dir):
        return [
            name
            for name in super().find_data_files(package, src_dir)
            if os.path.getsize(name) <= LARGEST
        ]


setup(cmdclass={"build_py": SmallFiles})
