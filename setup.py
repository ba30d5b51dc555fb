"""Builds the Cython modules; everything else is in pyproject.toml.

Portable C only: no -march flags, so that one wheel serves every x86-64 or aarch64 machine. Cython and the C compiler
use all cores, and only what changed is built again.

Environment, each "1" to switch on: FASTMAIL_STRICT makes warnings of Cython and of the C compiler errors (for our own
builds and CI; not the default, because another compiler has other warnings); FASTMAIL_SANITIZE adds AddressSanitizer
and UBSan; FASTMAIL_DEBUG keeps bounds checks; FASTMAIL_TRACE lets coverage see the lines of compiled modules;
FASTMAIL_PURE builds nothing (for an editable install whose modules `build_ext --inplace` makes).
"""

import os
from pathlib import Path
from typing import Any

from setuptools import Extension, setup

CORES = len(os.sched_getaffinity(0))


def switched_on(name: str) -> bool:
    return os.environ.get(f"FASTMAIL_{name}") == "1"


def compiled() -> list[Any]:
    """The extensions, their C files written by Cython."""
    from Cython.Build import cythonize
    from Cython.Compiler import Options

    args = ["-O2", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-unreachable-code"]
    links: list[str] = []
    macros: list[tuple[str, str | None]] = []
    trace = switched_on("TRACE")
    if switched_on("STRICT"):
        Options.warning_errors = True
        args += ["-Wall", "-Werror"]
    if switched_on("SANITIZE"):
        args = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
        links = ["-fsanitize=address,undefined"]
    if trace:
        args[0] = "-O0"
        macros = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
    modules = [
        Extension(
            str(path.with_suffix("")).replace(os.sep, "."),
            [str(path)],
            include_dirs=[str(path.parent)],
            depends=[str(header) for header in path.parent.glob("*.h")],
            define_macros=macros,
            extra_compile_args=args,
            extra_link_args=links,
        )
        for path in sorted(Path("fastmail").rglob("*.pyx"))
    ]
    directives = {
        "language_level": 3,
        "boundscheck": switched_on("DEBUG"),
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": False,
        "binding": False,
        "embedsignature": True,
        "linetrace": trace,
    }
    # coverage looks for the C file beside its source
    place = None if trace else "build/cython"
    made: list[Any] = cythonize(modules, nthreads=CORES, compiler_directives=directives, build_dir=place)
    return made


if __name__ == "__main__":  # the processes that Cython starts import this file, and build nothing
    setup(
        ext_modules=[] if switched_on("PURE") else compiled(),
        options={"build_ext": {"parallel": CORES}},
    )
