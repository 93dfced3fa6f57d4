"""Settings of the endpoint: `args` of the application in serving/config.yaml, or what `pusa serve` was told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pusa.config import Config
from pusa.gallery.verify import VerifyConfig
from pusa.stages import StagesConfig


class Limits(Config):
    """What a request may ask for. Every refusal names the limit."""

    body_mb: int = Field(default=2048, gt=0)  # of one request, however it is sent
    upload_seconds: float = Field(default=1800, gt=0)  # until its body is here
    photos: int = Field(default=2000, gt=0)  # of one request, in a ZIP or not
    photo_mb: int = Field(default=200, gt=0)  # of one photo; its pixels: `stages.crops.max_megapixels`
    wait_seconds: float = Field(default=20, ge=0)  # what takes longer is answered 202, with a job to ask for
    job_hours: float = Field(default=24, gt=0)  # after which a job is given up
    requests: int = Field(default=200, gt=0)  # at once; fewer than Web's max_ongoing_requests, where Serve refuses
    jobs: int = Field(default=64, gt=0)  # not finished at once; more are refused with 503
    photos_at_once: int = Field(default=16, gt=0)  # of all jobs, on their way through the networks


class ServingConfig(Config):
    """Settings of the endpoint."""

    gallery: str  # folder of the gallery: local, s3:// or gs://
    data: str  # folder of this server's own: jobs with their photos, keys; local to the node of the deployment Web
    # "open": everybody on this machine may do everything, and nobody else anything. Else a key is needed
    access: Literal["keys", "open"] = "keys"
    stages: StagesConfig = StagesConfig()
    verification: VerifyConfig = VerifyConfig()
    top: int = Field(default=5, gt=0)  # candidates of an encounter
    new_share: float = Field(
        default=0.5, gt=0, lt=1
    )  # of the encounters that are asked, how many are expected to be new
    threads: int | None = None  # of each network; null leaves it to torch
    limits: Limits = Limits()
