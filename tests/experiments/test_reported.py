"""The paper's numbers: complete, plausible, and some of them by hand."""

import pytest
from reference import assert_teaches

from experiments.methods import ABLATIONS, METHODS
from experiments.reported import REPORTED, reported
from monai_iste.errors import ConfigError


def test_reported_tables_are_complete():
    methods, fixed = list(METHODS), [m for m in METHODS if not METHODS[m].any_scale]
    assert [len(REPORTED[table]) for table in (1, 2, 3, 4)] == [3 * (4 * 5 + 4 * 3), 5 * 3, 2 * 4, 5]
    for dataset in ("tcga", "tma", "histosr"):
        for method in methods:
            scales = [s for s in (2, 3, 4, 6, 8) if reported(1, dataset, method, s)]
            assert scales == ([2, 3, 4] if method in fixed else [2, 3, 4, 6, 8])
    assert list(dict.fromkeys(method for _, method, _ in REPORTED[1])) == methods
    assert list(dict.fromkeys(method for _, method, _ in REPORTED[2])) == list(ABLATIONS)


@pytest.mark.parametrize("table", [1, 2])
def test_reported_quality_falls_with_the_scale(table):
    for dataset, method in {(dataset, method) for dataset, method, _ in REPORTED[table]}:
        cells = [cell for s in (2, 3, 4, 6, 8) if (cell := reported(table, dataset, method, s))]
        for metric, sign in (("psnr", -1), ("ssim", -1), ("fid", 1)):
            values = [sign * cell[metric] for cell in cells]
            assert values == sorted(set(values)), (dataset, method, metric)
    for cell in REPORTED[table].values():
        assert list(cell) == ["psnr", "fid", "ssim"]
        assert 15 < cell["psnr"] < 40
        assert 0.3 < cell["ssim"] < 1 < cell["fid"] < 250


def test_reported_iste_is_the_best_of_its_tables():
    for table in (1, 2):
        for dataset, method, scale in REPORTED[table]:
            iste = reported(table, dataset, "iste", scale)
            assert iste["psnr"] > reported(table, dataset, method, scale)["psnr"] or method == "iste"
    assert all(reported(2, "tcga", "iste", s) == reported(1, "tcga", "iste", s) for s in (2, 3, 4))


def test_reported_numbers():
    assert dict(reported(1, "tcga", "bicubic", 6)) == {"psnr": 23.05, "fid": 129, "ssim": 0.5354}
    assert dict(reported(1, "tma", "swd_net", 3.0)) == {"psnr": 28.06, "fid": 5.39, "ssim": 0.8746}
    assert dict(reported(1, "histosr", "lte", 8)) == {"psnr": 20.89, "fid": 154.28, "ssim": 0.4909}
    assert dict(reported(2, "tcga", "without_ltd", 4)) == {"psnr": 29.17, "fid": 16.53, "ssim": 0.8302}
    assert dict(reported(3, "glas_b", "sisr", 4)) == {"f1": 0.93, "object_dice": 0.95, "object_hausdorff": 65.81}
    assert dict(reported(4, "pcam", "iste", 2)) == {"accuracy": 81.15, "f1": 0.7816}
    assert reported(1, "tcga", "iste", 2.5) is None
    assert reported(1, "tcga", "esrgan", 2) is None
    for table, dataset in ((5, "tcga"), (2, "tma"), (1, "glas_a")):
        with pytest.raises(ConfigError) as error:
            reported(table, dataset, "iste", 2)
        assert_teaches(error.value, "1 with tcga, tma, histosr", f"{table} with {dataset}")
