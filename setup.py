"""Builds the Cython modules; everything else is in pyproject.toml.

Portable C only: no -march flags, so that one wheel serves every x86-64 or aarch64 machine.
FASTMAIL_SANITIZE=1 adds AddressSanitizer and UBSan; FASTMAIL_DEBUG=1 keeps bounds checks.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

args = ["-O2", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-unreachable-code"]
links: list[str] = []
if os.environ.get("FASTMAIL_SANITIZE"):
    args = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    links = ["-fsanitize=address,undefined"]
checks = bool(os.environ.get("FASTMAIL_DEBUG"))

setup(
    ext_modules=cythonize(
        [
            Extension(
                str(path.with_suffix("")).replace(os.sep, "."),
                [str(path)],
                include_dirs=[str(path.parent)],
                depends=[str(header) for header in path.parent.glob("*.h")],
                extra_compile_args=args,
                extra_link_args=links,
            )
            for path in sorted(Path("fastmail").rglob("*.pyx"))
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": checks,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "binding": False,
            "embedsignature": True,
        },
        build_dir="build/cython",
    ),
    options={"build_ext": {"parallel": len(os.sched_getaffinity(0))}},
)
