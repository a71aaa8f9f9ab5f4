"""Counts and sizes in headers, pipes and devices: refused in one sentence, at once and without memory."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile
from reference import assert_teaches

from monai_iste.errors import DataError
from monai_iste.io import probe, read_rgb
from monai_iste.io.image_reader import image_size
from monai_iste.io.pixel_size import find_mpp
from monai_iste.slides import Slide

PIXELS = np.zeros((16, 16, 3), np.uint8)
BIG = 1_000_000_000


def directory(path, changes, extra=b"", order="<", big=False, length=1000):
    """A TIFF of about a kilobyte, whose tags {tag: (type, count, value)} are as given."""
    tags = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 2), 277: (3, 1, 3)}
    tags |= {273: (4, 1, 8), 278: (4, 1, 64), 279: (4, 1, 3)} | changes
    count, entry, offset = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    width = 8 if big else 4
    body = struct.pack(order + count, len(tags))
    for tag, (kind, number, value) in sorted(tags.items()):
        place = struct.pack(order + "HH", value, 0) + bytes(width - 4) if kind == 3 and number == 1 else None
        head = struct.pack(order + entry[:-1], tag, kind, number)
        body += head + (place or struct.pack(order + offset, value))
    head = {"<": b"II", ">": b"MM"}[order] + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 16) + bytes(8)
    )
    path.write_bytes(head + body + bytes(width) + extra + bytes(length))
    return path


def ome(z=1, t=1, opening="", size=16):
    return (
        f'<?xml version="1.0"?>{opening}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{size}" SizeY="{size}" '
        f'SizeC="3" SizeZ="{z}" SizeT="{t}"><Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData/></Pixels>'
        "</Image></OME>"
    )


def described(description):
    return lambda path: tifffile.imwrite(path, PIXELS, photometric="rgb", description=description, metadata=None)


def tags(**options):
    changes = {int(name.removeprefix("t")): value for name, value in options.items() if name.startswith("t")}
    return lambda path: directory(path, changes, **{k: v for k, v in options.items() if not k.startswith("t")})


def hole(path):
    """A file of 3 GB, most of it not stored, with 400 million strips."""
    directory(
        path, {257: (4, 1, 400_000_000), 273: (4, 400_000_000, 1200), 278: (4, 1, 1), 279: (4, 400_000_000, 1200)}
    )
    os.truncate(path, 3_000_000_000)


def many_directories(path):
    """Directories of no entries, each of which leads to the next."""
    count = 15_000
    chain = b"".join(struct.pack("<HI", 0, 8 + 6 * (n + 1)) for n in range(count))
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + chain)


CLAIMS = {
    "SizeT": (described(ome(t=300_000_000)), "OME-XML"),
    "SizeZ": (described(ome(z=BIG)), "OME-XML"),
    "SizeZ times SizeT": (described(ome(z=100_000, t=100_000)), "OME-XML"),
    "SizeT in an entity": (described(ome().replace('SizeT="1"', 'SizeT="3&#48;0000000"')), "OME-XML"),
    "five slices": (described(ome(z=5)), "a stack"),
    "strips": (tags(t273=(4, BIG, 8), t279=(4, BIG, 8)), "in the tag 273"),
    "strips, big-endian": (tags(t273=(4, BIG, 8), t279=(4, BIG, 8), order=">"), "in the tag 273"),
    "strips, BigTIFF": (tags(t273=(16, 2**40, 8), t279=(16, 2**40, 8), big=True), "in the tag 273"),
    "tiles": (tags(t322=(4, 1, 16), t323=(4, 1, 16), t324=(4, BIG, 8), t325=(4, BIG, 8)), "in the tag 324"),
    "rows of one strip each": (tags(t257=(4, 1, 40_000_000), t256=(4, 1, 1), t278=(4, 1, 1)), "1"),
    "tiles of one pixel": (tags(t322=(4, 1, 1), t323=(4, 1, 1), t324=(4, 1, 8), t325=(4, 1, 8)), "tiles or strips"),
    "color profile": (tags(t34675=(7, 2_000_000_000, 8)), "in the tag 34675"),
    "description": (tags(t270=(2, 2_000_000_000, 8)), "in the tag 270"),
    "SubIFDs": (tags(t330=(4, BIG, 8)), "in the tag 330"),
    "samples": (tags(t277=(3, 1, 65_535)), "65535 channels"),
    "depth": (tags(t32997=(4, 1, 2_000_000_000)), ""),
    "a hole": (hole, "in the tag 273"),
    "directories": (many_directories, "directories"),
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("read", [read_rgb, probe, image_size, Slide])
def test_large_claims_are_refused_without_memory(tmp_path, name, read):
    path = tmp_path / "a.tif"
    write, words = CLAIMS[name]
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert_teaches(caught.value, str(path), words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("power", [14, 15, 40, 63])
def test_a_directory_of_more_entries_than_the_file_holds(tmp_path, recwarn, bigtiff, power):
    """Pillow would read as far as it comes, and warn."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb", bigtiff=bigtiff)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    at = int.from_bytes(data[8:16] if bigtiff else data[4:8], "little")
    size = 8 if bigtiff else 2
    data[at : at + size] = min(2**power, 2 ** (8 * size) - 1).to_bytes(size, "little")
    (tmp_path / "a.tif").write_bytes(data)
    for read in (read_rgb, Slide):
        with pytest.raises(DataError):
            read(tmp_path / "a.tif")
    assert not recwarn.list


def test_a_directory_that_leads_to_itself(tmp_path):
    path = directory(tmp_path / "a.tif", {330: (4, 1, 16)})
    assert image_size(path) == (64, 64)
    with pytest.raises(DataError, match=r"a\.tif"):
        read_rgb(path)


@pytest.mark.parametrize("description", [ome(opening='<!DOCTYPE a [<!ENTITY b "c">]>'), ome()[:-40], "<OME>", "OME>"])
def test_damaged_ome_xml_does_not_hide_an_image(tmp_path, description):
    described(description)(tmp_path / "a.tif")
    assert image_size(tmp_path / "a.tif") == (16, 16)


def test_a_label_may_have_slices_beside_a_larger_image(tmp_path):
    other = ome(z=4, size=8).partition("<Image")[2].rpartition("</OME>")[0]
    described(ome().replace("</OME>", f"<Image{other}</OME>"))(tmp_path / "a.tif")
    assert image_size(tmp_path / "a.tif") == (16, 16)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.svs", "a.nii", "a.ndpi"])
@pytest.mark.parametrize("read", [read_rgb, probe, image_size, Slide])
def test_a_pipe_is_refused_at_once(tmp_path, name, read):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert_teaches(caught.value, str(tmp_path / name), "pipe or a device", "regular file")
    assert find_mpp(tmp_path / name).mpp is None


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no such device")
def test_a_device_is_refused(tmp_path):
    (tmp_path / "a.tif").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="pipe or a device"):
        Slide(tmp_path / "a.tif")
