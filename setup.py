"""Metadata and dependencies. Tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "monai_iste" / "__init__.py").read_text()).group(1)

CORE = [
    "torch>=2.8,<2.14",
    "monai>=1.6,<1.7",
    "pytorch-ignite>=0.5.2",
    "numpy>=1.26",
    "nibabel>=5.2",
    "tifffile>=2024.1",
    "pillow>=10.1",
    "scikit-image>=0.23",
    "scipy>=1.11",
    "pyyaml>=6",
    "fire>=0.6",
    "typer>=0.16",
    "tqdm>=4.66",
    "tensorboard>=2.16",
    "safetensors>=0.4.3",
    "openslide-python>=1.4",
    "openslide-bin>=4.0.1",
]
SLIDES = ["zarr>=3", "imagecodecs"]
VIEWER = ["fastapi", "uvicorn"]
EXPERIMENTS = ["h5py", "lmdb", "matplotlib>=3.8"]
DISTRIBUTED = [*SLIDES, "dask", "distributed"]
EXTRAS = {
    "slides": SLIDES,
    "distributed": DISTRIBUTED,
    "viewer": VIEWER,
    "fid": ["pytorch-fid>=0.3"],
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
    "test": [*DISTRIBUTED, *EXPERIMENTS, *VIEWER, "httpx", "pytest>=8", "pytest-xdist>=3.5", "jsonschema"],
    "dev": ["ruff==0.17.6", "mypy==2.4.1", "types-PyYAML", "types-tqdm", "pre-commit"],
}
EXTRAS["all"] = sorted({package for name, packages in EXTRAS.items() if name != "napari" for package in packages})
# Environments of their own: MONAI Label forces old pins, wsidicomizer an older wsidicom.
EXTRAS["label"] = [
    "monailabel==0.8.5",
    "numpy<2",
    "pydicom<3",
    "pynetdicom<3",
    "dicomweb-client[gcp]>=0.59.1,<0.60",
]
EXTRAS["dicom"] = [*SLIDES, "wsidicomizer"]

setup(
    name="monai_iste",
    version=VERSION,
    description="Arbitrary-scale super-resolution of H&E histopathology (ISTE) as a MONAI component library",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
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
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
