"""Our files read by the programs that they are for; a test is skipped where its program is not installed.

frictionless comes with the development tools. The others are not: `pip install megadetector-utils wildlife-datasets`
(into another environment, or OpenCV is there twice), and in R the packages secr, RMark and oSCR.
"""

import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest
from made_dataset import ENCOUNTERS, dataset, day, instance

from pusa.exchange import camtrap_dp, export
from pusa.exchange.dataset import Photo

METADATA = {
    "contributors": [{"title": "Mia", "role": "contact"}],
    "project": {"title": "P", "samplingDesign": "targeted", "captureMethod": ["timeLapse"]},
    "taxonomic": [{"scientificName": "Pusa hispida"}],
}
PHOTOS = [Photo(f"p{n}", f"a/IMG {n}.png", 8, 6, "a", day("2021-02-10"), "C") for n in (1, 2)]
DATA = dataset(ENCOUNTERS, [instance(photo=PHOTOS[0], score=0.5), instance(1, photo=PHOTOS[0], individual=None),
                            instance(photo=PHOTOS[1], score=1.0)])  # fmt: skip


def write(folder, form):
    files, _ = export.files_of(DATA, form, export.Options(metadata=METADATA))
    export.save(files, str(folder) + "/")
    return folder


def test_frictionless_finds_no_fault_in_camtrap_dp(tmp_path):
    frictionless = pytest.importorskip("frictionless")
    package = json.loads((write(tmp_path, "camtrap-dp") / "datapackage.json").read_text())
    del package["profile"]  # an address on the web; `camtrap_dp.check` has checked it
    for resource in package["resources"]:
        resource["schema"] = camtrap_dp.schema(resource["name"])
        del resource["profile"]
    found = frictionless.Package.from_descriptor(package, basepath=str(tmp_path))
    assert found.validate().flatten(["type", "note"]) == []
    assert [len(resource.read_rows()) for resource in found.resources] == [3, 2, 4]
    # and would find one: a photo of a deployment that there is not
    text = (tmp_path / "media.csv").read_text()
    (tmp_path / "media.csv").write_text(text.replace("p1,C", "p1,X"))
    again = frictionless.Package.from_descriptor(package, basepath=str(tmp_path))
    assert [error[0] for error in again.validate().flatten(["type"])] == ["foreign-key"]


def test_megadetectors_own_validator(tmp_path):
    validator = pytest.importorskip("megadetector.postprocessing.validate_batch_results")
    options = validator.ValidateBatchResultsOptions()
    options.raise_errors, options.return_data = True, True
    found = validator.validate_batch_results(str(write(tmp_path, "megadetector") / "detections.json"), options)
    assert found["validation_results"]["errors"] == found["validation_results"]["warnings"] == []
    assert [len(image["detections"]) for image in found["images"]] == [2, 1]


def test_wildlife_datasets_loads_our_table(tmp_path):
    pandas = pytest.importorskip("pandas")
    datasets = pytest.importorskip("wildlife_datasets.datasets")
    (tmp_path / "a").mkdir()
    for n in (1, 2):
        cv2.imwrite(str(tmp_path / "a" / f"IMG {n}.png"), np.full((6, 8, 3), 50 * n, np.uint8))
    table = pandas.read_csv(write(tmp_path, "wildlife-datasets") / "metadata.csv")
    for column in ("bbox", "segmentation"):
        table[column] = table[column].map(json.loads)
    found = datasets.WildlifeDataset(root=str(tmp_path), df=table, img_load="bbox_mask", remove_unknown=True)
    assert (len(found), found.num_classes) == (2, 1)  # the animal that nobody knows is no class
    assert np.asarray(found[1]).shape == (2, 2, 3)
    assert (np.asarray(found[1]) == 100).all()
    # their own check of types, ids and files takes it as it is
    assert len(found.finalize_catalogue(table.copy())) == 3


def r(code, folder, package):
    if not shutil.which("Rscript"):
        pytest.skip("R is not installed")
    if subprocess.run(["Rscript", "-e", f"library({package})"], capture_output=True, check=False).returncode:
        pytest.skip(f"R's package {package} is not installed")
    done = subprocess.run(["Rscript", "-e", code], cwd=folder, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_secr_reads_captures_and_traps(tmp_path):
    code = 'suppressMessages(source("read.R")); cat(dim(pooled), sum(pooled), usage(traps(pooled))["Bay", ])'
    told = r(code, write(tmp_path, "secr"), "secr")
    # 3 animals, 4 occasions, 2 places, 6 encounters; Bay was dead on the second occasion
    assert told[-8:] == ["3", "4", "2", "6", "1", "0", "1", "1"]


def test_rmark_reads_both_of_its_files(tmp_path):
    code = 'source("read.R"); p <- RMark::process.data(pooled, model = "CJS"); cat(p$nocc, pooled$ch)'
    assert r(code, write(tmp_path, "rmark"), "RMark")[-4:] == ["4", "0001", "0110", "1001"]
    code = 'd <- RMark::convert.inp("pooled.inp", use.comments = TRUE); cat(d$ch, d$freq, rownames(d), sep = "\n")'
    told = r(code, write(tmp_path, "mark"), "RMark")
    assert told == ["0001", "0110", "1001", "1", "1", "1", "S", "3", "S1", "S2"]


def test_oscr_reads_its_tables(tmp_path):
    code = 'suppressMessages(source("read.R")); y <- pooled$y3d[[1]]; cat(dim(y), sum(y), pooled$trapopp[[1]][1, ])'
    told = r(code, write(tmp_path, "oscr"), "oSCR")
    assert told[-8:] == ["3", "2", "4", "5", "1", "0", "1", "1"]  # two of one animal at one place and time are one
