"""Tables read back from their files: order, missing numbers, the best, LaTeX."""

import csv
import re

import pytest
from reference import assert_teaches

from experiments.methods import ABLATIONS, METHODS
from experiments.statistics import Comparison, Interval
from experiments.tables import write_comparisons, write_tables
from monai_iste.errors import DataError, OutputError

SCALES = (2, 3, 6)


def table_rows() -> list[dict]:
    """All methods at the scales they have, in reverse order; swinir's numbers are missing at x3, liif's at x6."""
    rows = []
    for i, (key, method) in enumerate(METHODS.items()):
        for scale in method.scales(SCALES):
            if (key, scale) not in (("swinir", 3), ("liif", 6)):
                psnr = 30 + i / 10 - scale
                rows.append({"method": key, "scale": scale, "psnr": psnr, "ssim": psnr / 50, "images": 20})
    return rows[::-1]


def read_markdown(path) -> dict[str, list[dict[str, str]]]:
    """{title of a panel: its lines, each {heading: cell}}; headings occur once."""
    panels, header = {}, []
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if line.endswith(":") and not cells:
            lines = panels.setdefault(line[:-1], [])
            header = []
        elif cells and not header:
            header = cells
            assert len(set(header)) == len(header)
        elif cells and not set(line) <= set("|:- "):
            lines.append(dict(zip(header, cells, strict=True)))
    return panels


def write(tmp_path, rows, **options):
    return write_tables(rows, tmp_path / "tables", "table1", "A & B_1.", **options)


def test_markdown_has_the_papers_order_and_marks_missing_numbers(tmp_path):
    _, path, _ = write(tmp_path, table_rows(), reported_dataset="tcga")
    panels = read_markdown(path)
    assert list(panels) == ["PSNR, dB (higher is better)", "FID (lower is better)", "SSIM (higher is better)"]
    psnr, fid, ssim = panels.values()
    for lines in panels.values():
        assert [line["Method"] for line in lines] == [method.label for method in METHODS.values()]
        assert list(lines[0]) == ["Method", "Size", "x2", "x3", "x6", "reported x2", "reported x3", "reported x6"]
    by_name = {line["Method"]: line for line in psnr}
    assert by_name["EDSR"]["x6"] == by_name["EDSR"]["reported x6"] == "-"
    assert by_name["SwinIR"]["x3"] == by_name["LIIF"]["x6"] == "not measured"
    assert by_name["Bicubic"]["x2"] == "28.00"
    assert by_name["LTE"]["x3"] == "27.60"
    assert by_name["ISTE"]["x2"] == "**28.70**"
    assert by_name["Bicubic"]["reported x6"] == "23.05"
    assert {line["x2"] for line in fid} == {"not measured"}
    assert [line["x6"] for line in fid if line["Method"] in ("SWD-Net", "LIIF")] == ["-", "not measured"]
    assert ssim[0]["x2"] == "0.5600"
    assert [line["reported x3"] for line in fid if "**" in line["reported x3"]] == ["**2.65**"]  # SwinIR's
    assert ssim[0]["reported x3"] == "0.8070"
    assert "arXiv:2401.15613" in path.read_text()
    assert "20 images, 1 seed." in path.read_text()


def rows_of(column: dict[str, float | None], key: str = "psnr", **more) -> list[dict]:
    base = {"scale": 2, "psnr": 30.0, "ssim": 0.9, "images": 5}
    return [{**base, "method": method, key: value, **more} for method, value in column.items()]


@pytest.mark.parametrize(
    ("key", "values", "bold"),
    [
        ("psnr", (31.004, 31.001, 30.0), ["iste"]),  # the same after rounding, not before
        ("psnr", (31.004, 31.004, 30.0), ["iste", "lte"]),
        ("ssim", (0.81, 0.79, 0.80), ["iste"]),
        ("fid", (9.0, 8.0, 10.0), ["lte"]),
        ("fid", (9.0, None, 10.0), ["iste"]),
        ("fid", (9.0, None, None), []),
    ],
)
def test_the_best_is_chosen_before_rounding(tmp_path, key, values, bold):
    methods = ("iste", "lte", "liif")
    paths = write(tmp_path, rows_of(dict(zip(methods, values, strict=True)), key))
    titles = {"psnr": "PSNR, dB (higher is better)", "ssim": "SSIM (higher is better)", "fid": "FID (lower is better)"}
    lines = read_markdown(paths[1])[titles[key]]
    assert [line["Method"] for line in lines if "**" in line["x2"]] == [METHODS[m].label for m in METHODS if m in bold]
    check_latex(paths[2].read_text())
    panel = paths[2].read_text().split(titles[key])[1].split(r"\midrule")[0]
    assert panel.count(r"\textbf") == len(bold)


def test_csv_holds_every_number_unrounded(tmp_path):
    rows = [{**row, "psnr": row["psnr"] + 1 / 3, "psnr_std": 0.1 / 3, "seeds": 3} for row in table_rows()]
    path = write(tmp_path, rows, reported_dataset="tma")[0]
    lines = list(csv.DictReader(path.open()))
    assert len(lines) == len(rows)
    assert list(dict.fromkeys(line["method"] for line in lines)) == list(METHODS)
    by_place = {(line["method"], float(line["scale"])): line for line in lines}
    for row in rows:
        line = by_place[row["method"], row["scale"]]
        assert float(line["psnr"]) == row["psnr"]
        assert float(line["psnr_std"]) == row["psnr_std"]
        assert (line["fid"], line["seeds"], line["images"], line["ssim_std"]) == ("", "3", "20", "")
    assert by_place["iste", 6]["reported_fid"] == "49.27"
    assert by_place["swinir", 2]["reported_psnr"] == "31.2"
    assert by_place["edsr", 2]["label"] == "EDSR"


def width(line: str) -> int:
    """Number of columns that a line of LaTeX fills."""
    spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans)


def check_latex(text: str) -> list[str]:
    """The lines of the table's body; every one fills the columns that are declared, and braces and groups match."""
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    assert re.findall(r"\\begin\{(.*?)\}", text) == re.findall(r"\\end\{(.*?)\}", text)[::-1]
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {width(line) for line in lines} == {columns}
    last = [int(end) for _, end in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", body)]
    assert last[-1] == columns
    assert text.count("$") % 2 == 0
    return lines


def test_latex_is_a_table_of_booktabs(tmp_path):
    rows = [{**row, "note": "1.2 M, 50 % {x}"} if row["method"] == "iste" else row for row in table_rows()]
    rows = [{**row, "psnr_std": 0.021, "seeds": 3} if row["method"] == "lte" else row for row in rows]
    text = write(tmp_path, rows, reported_dataset="tcga")[2].read_text()
    lines = check_latex(text)
    assert r"\multicolumn{3}{c}{measured} & \multicolumn{3}{c}{reported} \\" in lines[0]
    assert r"\cmidrule(lr){3-5}\cmidrule(lr){6-8}" in text
    assert r"$\times$2 & $\times$3 & $\times$6 & $\times$2" in lines[1]
    iste, lte, edsr = (
        next(line for line in lines if line.startswith(label)) for label in ("ISTE &", "LTE &", "EDSR &")
    )
    assert iste.startswith(r"ISTE & 1.2 M, 50 \% \{x\} & \textbf{28.70} & ")
    assert r"28.60 $\pm$ 0.02 & " in lte
    assert edsr == r"EDSR &  & 28.10 & 27.10 & -- & 36.14 & 31.16 & -- \\"
    assert r"\caption{A \& B\_1. Measured here: " in text
    assert r"\label{tab:table1}" in text
    assert r"\multicolumn{3}{c}{not measured}" in text  # FID


def test_table_of_ablations(tmp_path):
    rows = rows_of({method: 30.0 + i for i, method in enumerate(ABLATIONS)})
    _, path, _ = write(tmp_path, rows[::-1], reported_dataset="tcga", reported_table=2)
    psnr, fid, _ = read_markdown(path).values()
    assert [line["Method"] for line in psnr] == ["ISTE", "w/o LFI", "w/o STF", "w/o TL", "w/o LTD"]
    assert [line["reported x2"] for line in psnr] == ["**37.76**", "37.61", "37.66", "37.64", "37.63"]
    assert [line["reported x2"] for line in fid] == ["**1.07**", "1.08", "**1.07**", "1.08", "**1.07**"]


def test_what_the_paper_does_not_have(tmp_path):
    rows = rows_of({"lte": 30.0, "mine|too": 31.0, "iste": 29.0}, lr_psnr=50.0, spectrum=4.5)
    rows += rows_of({"iste": 28.0}, note="small", lr_psnr=51.0, spectrum=3.5)
    rows += [{**row, "scale": 2.5} for row in rows]
    csv_path, path, tex = write(tmp_path, rows, reported_dataset="tcga")
    panels = read_markdown(path)
    lines = panels["PSNR, dB (higher is better)"]
    assert [(line["Method"], line["Size"]) for line in lines] == [
        ("LTE", ""),
        ("ISTE", ""),
        ("ISTE", "small"),
        (r"mine\|too", ""),
    ]
    assert list(lines[0]) == ["Method", "Size", "x2", "x2.5", "reported x2"]
    assert lines[-1]["reported x2"] == "-"
    added = list(panels.items())[3:]
    assert [title for title, _ in added] == [
        "PSNR of the result reduced again, dB (higher is better)",
        "distance of the power spectra, dB (lower is better)",
    ]
    assert [line["x2"] for line in added[0][1]] == ["50.00", "50.00", "**51.00**", "50.00"]
    assert [line["x2"] for line in added[1][1]] == ["4.50", "4.50", "**3.50**", "4.50"]
    check_latex(tex.read_text())
    assert next(csv.DictReader(csv_path.open()))["spectrum"] == "4.5"
    _, alone, tex = write(tmp_path, rows)
    assert "reported" not in alone.read_text().lower()
    assert "reported" not in tex.read_text().lower()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.clear(), ("none",)),
        (lambda rows: rows[0].pop("ssim"), ("method, scale, psnr, ssim, images", "without ssim")),
        (lambda rows: rows.append(dict(rows[0])), ("two of iste at x2",)),
        (lambda rows: rows[0].update(images=6), ("same images at x2", "5 and 6")),
        (lambda rows: [r.update(protocol=p) for r, p in zip(rows, "ab", strict=True)], ("one protocol", "a, b")),
    ],
)
def test_rows_that_make_no_table(tmp_path, change, words):
    rows = rows_of({"iste": 30.0, "lte": 29.0})
    change(rows)
    with pytest.raises(DataError) as error:
        write(tmp_path, rows)
    assert_teaches(error.value, *words)
    assert not (tmp_path / "tables").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "tables").write_text("a file")
    with pytest.raises(OutputError) as error:
        write(tmp_path, rows_of({"iste": 30.0}))
    assert "tables" in str(error.value)


def test_table_of_comparisons(tmp_path):
    found = [
        Comparison("iste", "liif", 2, "psnr", Interval(0.12345, 0.0601, 0.2), 20, 3),
        Comparison("iste", "liif", 4, "psnr", Interval(-0.0204, -0.05, 0.01), 20, 3),
        Comparison("iste", "lte", 2, "psnr", Interval(-0.3, -0.4, -0.2), 20, 2),
        Comparison("iste", "liif", 2, "ssim", Interval(0.001, -0.0001, 0.002), 20, 3),
    ]
    csv_path, path, tex = write_comparisons(found, tmp_path, "gains", "Gains.")
    psnr, ssim = read_markdown(path).values()
    assert [list(line.values()) for line in psnr] == [
        ["ISTE minus LIIF", "**+0.123 [+0.060, +0.200]**", "-0.020 [-0.050, +0.010]"],
        ["ISTE minus LTE", "**-0.300 [-0.400, -0.200]**", "not measured"],
    ]
    assert [line["x2"] for line in ssim] == ["+0.00100 [-0.00010, +0.00200]"]
    assert "20 images, 2 to 3 seeds" in path.read_text()
    lines = check_latex(tex.read_text())
    assert r"ISTE minus LTE & \textbf{$-$0.300 [$-$0.400, $-$0.200]} & \multicolumn{1}{c}{not measured} \\" in lines
    rows = list(csv.DictReader(csv_path.open()))
    assert (float(rows[0]["mean"]), rows[2]["other"], float(rows[1]["high"])) == (0.12345, "lte", 0.01)
    with pytest.raises(DataError) as error:
        write_comparisons([], tmp_path, "gains", "Gains.")
    assert_teaches(error.value, "none")
