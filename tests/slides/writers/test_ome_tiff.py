"""OME-TIFF slides: levels, pixel size, profile and provenance in every reader."""

import os
import re
import subprocess

import numpy as np
import pytest
import tifffile
from monai.data import WSIReader
from openslide import OpenSlide
from written_slides import (
    MPP,
    PROVENANCE,
    SIZES,
    SRGB,
    assert_levels,
    literal_levels,
    openslide_levels,
    save,
    texture,
    tifffile_levels,
)

from monai_iste.slides.writers import ome_tiff
from monai_iste.slides.writers.pyramid import level_sizes
from monai_iste.slides.writers.writer import SlideMetadata


@pytest.fixture(params=["classic", "BigTIFF"])
def kind(request, monkeypatch):
    if request.param == "BigTIFF":
        monkeypatch.setattr(ome_tiff, "_may_pass_4_gb", lambda sizes: True)
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compression", ["jpeg", "lossless"])
def test_every_reader_finds_every_level_of_ome_tiff(tmp_path, size, compression, kind):
    pixels, mean = texture(*size), {"jpeg": 2, "lossless": 0}[compression]
    path = save(tmp_path / "a.ome.tif", pixels, compression=compression)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == (kind == "BigTIFF")
    assert_levels(tifffile_levels(path), pixels, mean)
    with OpenSlide(path) as slide:
        assert_levels(openslide_levels(slide), pixels, mean)
    monai = WSIReader("openslide")
    image = monai.read(path)
    assert monai.get_level_count(image) == len(literal_levels(pixels))
    for level, expected in enumerate(literal_levels(pixels)):
        region, _ = monai.get_data(image, level=level)
        assert region.shape == (3, *expected.shape[:2])
        assert np.abs(region.transpose(1, 2, 0).astype(int) - expected).mean() <= mean


def test_color_is_kept_at_full_resolution_along_y(tmp_path):
    """Rows of red and of green have one brightness: color of half resolution would make them all brown."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[::2, :, 0] = 200
    pixels[1::2, :, 1] = 100
    found = tifffile_levels(save(tmp_path / "a.ome.tif", pixels))[0]
    assert np.abs(found.astype(int) - pixels).mean() < 8


def test_the_padding_of_tiles_does_not_shine_through(tmp_path):
    """The slide ends inside a block of 8 x 8 pixels, which a black margin would darken."""
    pixels = np.full((515, 515, 3), 240, np.uint8)
    found = tifffile_levels(save(tmp_path / "a.ome.tif", pixels))[0]
    assert np.abs(found.astype(int) - 240).max() <= 1


@pytest.mark.parametrize("side", [20_000, 30_000, 33_000, 40_000])
def test_bigtiff_as_soon_as_incompressible_tiles_could_pass_4_gb(side):
    worst = sum(3.001 * 512**2 * (-(-height // 512)) ** 2 for height, _ in level_sizes((side, side)))
    big = ome_tiff._may_pass_4_gb(level_sizes((side, side)))
    assert big or worst < 2**32
    assert not big or side > 30_000


def test_pixel_size_profile_and_provenance_of_ome_tiff(tmp_path, kind):
    path = save(tmp_path / "a.ome.tif", texture(600, 1100))
    with OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(MPP[0], rel=1e-6)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP[1], rel=1e-6)
        assert slide.color_profile.tobytes() == SRGB
    monai = WSIReader("openslide")
    assert monai.get_mpp(monai.read(path), 1) == pytest.approx((2 * MPP[0], 2 * MPP[1]), rel=0.01)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].software == "monai_iste 9.9"
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == MPP
        assert pixels["PhysicalSizeYUnit"] == pixels["PhysicalSizeXUnit"] == "µm"
        for key, text in PROVENANCE.items():
            assert f'<M K="{key}">{text}</M>' in tiff.ome_metadata
        for level, page in enumerate(tiff.pages[0].pages, start=1):
            assert page.subfiletype == 1
            assert page.tags["InterColorProfile"].value == SRGB
            top, y = page.tags["YResolution"].value
            assert 1e4 * y / top == pytest.approx(2**level * MPP[0], rel=1e-6)


def test_the_directories_of_a_hybrid_share_their_tiles(tmp_path, kind):
    """Two ways to each lower level, through the SubIFDs and through the chain, and one copy of the pixels."""
    path = save(tmp_path / "a.ome.tif", texture(1300, 2001))
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 3
        assert [len(page.subifds or ()) for page in tiff.pages] == [2, 0, 0]
        for chained, nested in zip(tiff.pages[1:], tiff.pages[0].pages, strict=True):
            assert chained.offset != nested.offset
            assert chained.dataoffsets == nested.dataoffsets
            assert {tag.name: tag.value for tag in chained.tags} == {tag.name: tag.value for tag in nested.tags}


def test_control_characters_do_not_spoil_the_description(tmp_path):
    odd = {"software": "a\x00b\x07 é", "k<&>": "\ud7ff \x1b µ"}
    path = save(tmp_path / "a.ome.tif", texture(9, 9), SlideMetadata(None, None, odd))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].software == "a?b? ?"
        assert '<M K="k&lt;&amp;&gt;">\ud7ff ? µ</M>' in tiff.ome_metadata
        assert tiff.series[0].kind == "ome"


@pytest.mark.skipif("BIOFORMATS_JAR" not in os.environ, reason="BIOFORMATS_JAR names no bioformats_package.jar")
@pytest.mark.parametrize("compression", ["jpeg", "lossless"])
def test_bio_formats_reads_every_level(tmp_path, compression, kind):
    def run(tool: str, *arguments: object) -> str:
        command = ["java", "-cp", os.environ["BIOFORMATS_JAR"], f"loci.formats.tools.{tool}", "-no-upgrade", "-noflat"]
        return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=True).stdout

    pixels = texture(1300, 2001)
    path = save(tmp_path / "a.ome.tif", pixels, compression=compression)
    report = run("ImageInfo", "-nopix", "-omexml", path)
    assert "No validation errors found" in report
    assert "Series count = 1" in report
    assert re.findall(r"sizeX\[\d\] = (\d+)", report) == ["2001", "1001", "501"]
    assert f'PhysicalSizeX="{MPP[1]}" PhysicalSizeXUnit="µm" PhysicalSizeY="{MPP[0]}"' in report
    assert '<M K="notice">super-resolved, not for diagnosis</M>' in report
    run("ImageConverter", path, tmp_path / "copy.ome.tif")  # uncompressed, all levels, channels first
    copied = [level.transpose(1, 2, 0) for level in tifffile_levels(tmp_path / "copy.ome.tif")]
    assert_levels(copied, pixels, {"jpeg": 2, "lossless": 0}[compression])
