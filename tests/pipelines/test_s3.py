"""Archive, run and gallery in buckets of a real S3 server (moto's), by the environment variables of docs/scale.md."""

import boto3
import cv2
import made_gallery
import numpy as np
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from pipelines.index import index
from pipelines.process import ProcessConfig, count
from pipelines.write import PhotoWriter
from pusa.errors import UserError
from pusa.exchange import export
from pusa.fisher.codebook import Codebook
from pusa.gallery.contents import contents
from pusa.gallery.journal import Decision
from pusa.gallery.store import Gallery
from pusa.records import Run
from pusa.report.catalogue import write_catalogue_report
from pusa.report.page import write_report
from pusa.segmentation.detect import PhotoDetector
from pusa.segmentation.segmenter import SegmentationConfig


@pytest.fixture(scope="module")
def s3():
    """A server with two buckets; three photos, one of them damaged, lie in s3://photos/2019."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as environment:
        for key, value in {
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,  # for photos and runs
            "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true",  # for galleries
        }.items():  # fmt: skip
            environment.setenv(key, value)
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        for bucket in ("photos", "results"):
            client.create_bucket(Bucket=bucket)
        for number in range(2):
            rgb = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
            client.put_object(Bucket="photos", Key=f"2019/a/{number}.png", Body=cv2.imencode(".png", rgb)[1].tobytes())
        client.put_object(Bucket="photos", Key="2019/a/bad.png", Body=b"no photo")
        yield client
        server.stop()


def test_archive_and_run_in_buckets(s3):
    summary = index("s3://photos/2019", "s3://results/run")
    assert summary.photos == 3
    run = Run("s3://results/run")
    detector = PhotoDetector("s3://photos/2019", SegmentationConfig(device="cpu"))
    PhotoWriter("s3://results/run")(detector(run.read("index")))
    rows = run.read("photos").sort_by("path").to_pylist()
    assert [(row["path"], row["status"]) for row in rows] == [
        ("a/0.png", "ok"), ("a/1.png", "ok"), ("a/bad.png", "error")
    ]  # fmt: skip
    about = {
        "archive": "s3://photos/2019",
        "config": ProcessConfig().model_dump(mode="json"),
        "weights": {},
        "instances": None,
    }
    begun = {"version": "0", "command": "", "begun": "2026-01-01T00:00:00Z", "seconds": 1.0}
    run.write_manifest(about | begun | {"state": "finished", "counts": count(run)})
    assert write_report(run)[0] == "s3://results/run/report.html"
    keys = {o["Key"] for o in s3.list_objects_v2(Bucket="results", Prefix="run/")["Contents"]}
    assert "run/report.html" in keys
    assert not [key for key in keys if key.endswith(".tmp")]


def test_gallery_in_a_bucket(s3):
    gallery = Gallery.create("s3://results/gallery", Codebook.load("starter/codebook"))
    rows = pa.table({"run": ["r", "r"], "encounter_id": ["1", "2"], "individual": ["Anna", None]})
    assert gallery.enroll(rows) == 2
    Gallery.open("s3://results/gallery").decide(Decision("same", (("r", "2"),), "Anna", by="me"))
    again = Gallery.open("s3://results/gallery")
    assert again.catalogue().names == {("r", "1"): "Anna", ("r", "2"): "Anna"}


def test_exports_and_the_report_of_a_gallery_in_a_bucket(s3):
    made = made_gallery.run("s3://results/seals", archive="s3://photos/2021")
    gallery = made_gallery.gallery("s3://results/catalogue", made)
    made.fs.delete_dir(made.path)
    found = contents(Gallery.open(gallery.uri))
    assert (len(found.instances), found.root) == (6, "s3://photos/2021")
    files, _ = export.files_of(found, "coco")
    assert export.save(files, "s3://results/out.json") == ["s3://results/out.json"]
    written = write_catalogue_report(found, gallery.uri)
    assert written[:2] == ["s3://results/catalogue/report.html", "s3://results/catalogue/report/discovery.png"]
    keys = {o["Key"] for o in s3.list_objects_v2(Bucket="results")["Contents"]}
    assert {"out.json", "catalogue/report.html", "catalogue/report/individuals.csv"} <= keys
    assert Gallery.open(gallery.uri).counts()["encounters"] == 5


def test_what_is_not_there(s3):
    with pytest.raises(UserError, match="There is no folder s3://photos/2020"):
        index("s3://photos/2020")
    with pytest.raises(UserError, match="There is no folder s3://nobucket/2020"):
        index("s3://nobucket/2020")
    with pytest.raises(UserError, match="There is no gallery at s3://results/none"):
        Gallery.open("s3://results/none")
