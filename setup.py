"""Metadata and dependencies. Tools are configured in pyproject.toml."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "monai_iste" / "_version.py").read_text()).group(1)

#: Address of the repository, such as https://example.org/NAME/monai_iste, for links of the README on a package index.
REPOSITORY = os.environ.get("MONAI_ISTE_REPOSITORY", "").rstrip("/")


def long_description() -> str:
    """Return the README for a package index, where relative links lead nowhere.

    They are made absolute if the address of the repository is known. Otherwise their words stay, and pictures go.
    """

    def absolute(link: re.Match) -> str:
        picture, words, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        if REPOSITORY:
            return f"{picture}[{words}]({REPOSITORY}/{'raw' if picture else 'blob'}/v{VERSION}/{target})"
        return "" if picture else words

    return re.sub(r"(!?)\[([^\[\]]*)\]\(([^()\s]+)\)", absolute, (HERE / "README.md").read_text(encoding="utf-8"))


# No upper bound but where something is known to break. Lower bounds are those of tests/constraints-oldest.txt, on which
# the fast tier passes.
CORE = [
    "torch>=2.8",
    "monai>=1.6,<1.7",  # bundles, engines and name lookup change in MONAI's minor versions
    "pytorch-ignite>=0.5.2",
    "numpy>=1.26",
    "nibabel>=5.2",
    "tifffile>=2026.3.3",
    "pillow>=11.1",
    "scikit-image>=0.23.1",
    "scipy>=1.11.1",
    "pyyaml>=6",
    "fire>=0.6",
    "typer>=0.20.1",
    "tqdm>=4.66",
    "tensorboard>=2.17",
    "safetensors>=0.4.3",
    "defusedxml>=0.7.1",
    "openslide-python>=1.4",
    "openslide-bin>=4.0.1.1",
    "imagecodecs>=2026.3.6",  # tifffile's codecs: one reader of TIFF for every consumer; its oldest needs these
]
SLIDES = ["zarr>=3.0.8"]
VIEWER = ["fastapi>=0.140", "starlette>=1.7", "uvicorn>=0.30"]
EXPERIMENTS = ["h5py>=3.11", "lmdb>=1.5.1", "matplotlib>=3.8"]
DISTRIBUTED = [*SLIDES, "dask>=2025.1", "distributed>=2025.1"]
EXTRAS = {
    "slides": SLIDES,
    "distributed": DISTRIBUTED,
    "viewer": VIEWER,
    "fid": [],  # nothing: FID needs only its file of weights; the name stays for commands that have it
    "export": ["onnx", "onnxruntime"],
    "experiments": EXPERIMENTS,
    "mlflow": ["mlflow>=2.12"],
    "napari": ["napari[pyqt6]"],
    "docs": [
        "mkdocs>=1.6",
        "mkdocs-material>=9.8",
        "mkdocstrings[python]>=1.0",
        "ruff",
        "jupytext",
        "nbclient",
        "nbconvert",
        "ipykernel",
    ],
    "test": [
        *(*DISTRIBUTED, *EXPERIMENTS, *VIEWER, "httpx>=0.27", "jsonschema>=4.20"),
        *("pytest>=8", "pytest-xdist>=3.5", "setuptools>=77.0.3"),
    ],
    "dev": ["ruff==0.17.6", "mypy==2.4.1", "types-PyYAML", "types-tqdm", "pre-commit"],
}
EXTRAS["all"] = sorted({package for name, packages in EXTRAS.items() if name != "napari" for package in packages})
# Best in environments of their own: MONAI Label forces old pins, wsidicomizer an older wsidicom.
EXTRAS["label"] = [
    "monailabel==0.8.5",
    "numpy<2",
    "pydicom<3",
    "pynetdicom<3",
    "dicomweb-client[gcp]>=0.59.1,<0.60",
]
# With pydantic 2.14, bioimageio.spec 0.5.12 cannot describe a model.
EXTRAS["bioimageio"] = ["bioimageio.core>=0.11", "pydantic<2.14"]
EXTRAS["dicom"] = [*SLIDES, "wsidicomizer"]

setup(
    name="monai_iste",
    version=VERSION,
    description="Arbitrary-scale super-resolution of H&E histopathology (ISTE) as a MONAI component library",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    # The code and the weights; OpenSeadragon in the viewer. Weights for research only are not part of the package.
    license_expression="Apache-2.0 AND BSD-3-Clause",
    license_files=[
        "LICENSE",
        "NOTICE",
        "bundles/iste/models/iste_light2.md",
        "monai_iste/viewer/static/vendor/*/LICENSE*",
    ],
    package_dir={"": "."},  # an editable installation is then a path, in which type checkers and editors find the types
    python_requires=">=3.11",
    project_urls={"Source": REPOSITORY} if REPOSITORY else {},
    packages=find_packages(include=["monai_iste", "monai_iste.*"]),
    package_data={
        "monai_iste": [
            "py.typed",
            "configs/*",
            "weights/*",
            "viewer/static/*",
            "viewer/static/vendor/*/*",
            "napari/napari.yaml",
            "label/clients/*.groovy",
        ]
    },
    entry_points={
        "console_scripts": ["monai-iste = monai_iste.cli.main:main"],
        "napari.manifest": ["monai_iste = monai_iste.napari:napari.yaml"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
