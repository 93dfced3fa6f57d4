"""The configuration of the Serve application: read strictly, or made of `pusa serve`'s options; and run here.

Ray's own schema lets misspelt keys and impossible numbers pass, and a deployment that has no such name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pusa.config import load_config, read_yaml
from pusa.errors import UserError
from pusa.gallery.store import Gallery
from serving.access import Keys, is_loopback
from serving.database import Database
from serving.settings import ServingConfig

# Before Ray is imported. Its own ports can be reached from other machines, whatever address Pusa answers at, and who
# gets in there may run anything: only with the token that Ray keeps in the user's home.
for _key, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "token",
}.items():
    os.environ.setdefault(_key, _value)
# Ray forks before it starts other programs, none of which uses LanceDB.
warnings.filterwarnings("ignore", message="lancedb fork support")

DEPLOYMENTS = ("Web", "Detector", "Describer", "Identifier")
IMPORT_PATH = "serving.deployments:build"
SECONDS = 1800.0  # of a request, at most
OBJECT_STORE_BYTES = 1 << 30


def load(path: Path) -> dict[str, Any]:
    """A configuration as `serve deploy` takes it. Raises UserError for whatever would be ignored, or could not run."""
    from ray.serve.schema import ServeDeploySchema

    values = read_yaml(path, "a mapping with `applications`")
    check(values, str(path))
    try:
        ServeDeploySchema.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: `{where}`: {first['msg']} (got {first['input']!r}).") from e
    return values


def check(values: dict[str, Any], source: str) -> None:
    """Raises UserError for keys that Ray does not know, deployments that the application does not have, and settings
    that do not fit."""
    from ray.serve import schema
    from ray.serve.config import AutoscalingConfig

    _known(values, schema.ServeDeploySchema, source, "")
    _known(values.get("http_options"), schema.HTTPOptionsSchema, source, "http_options")
    applications = values.get("applications")
    if not isinstance(applications, list) or len(applications) != 1:
        raise UserError(f"{source}: expected `applications` with the one application.")
    (application,) = applications
    _known(application, schema.ServeApplicationSchema, source, "applications.0")
    if application.get("import_path") != IMPORT_PATH:
        raise UserError(f"{source}: `import_path`: expected {IMPORT_PATH}, got {application.get('import_path')!r}.")
    args = application.get("args")
    if not isinstance(args, dict):
        raise UserError(f"{source}: `args`: expected the settings of the endpoint, at least gallery and data.")
    _settings(args, source)
    for number, deployment in enumerate(application.get("deployments") or []):
        where = f"deployments.{number}"
        _known(deployment, schema.DeploymentSchema, source, where)
        if deployment.get("name") not in DEPLOYMENTS:
            names = ", ".join(DEPLOYMENTS)
            raise UserError(f"{source}: `{where}.name`: expected one of {names}, got {deployment.get('name')!r}.")
        _known(deployment.get("ray_actor_options"), schema.RayActorOptionsSchema, source, f"{where}.ray_actor_options")
        scaling = deployment.get("autoscaling_config")
        _known(scaling, AutoscalingConfig, source, f"{where}.autoscaling_config")
        if scaling:
            try:
                AutoscalingConfig(**scaling)
            except ValidationError as e:
                what = e.errors()[0]["msg"]
                raise UserError(f"{source}: `{where}.autoscaling_config`: {what}.") from e


def _settings(args: dict[str, Any], source: str) -> ServingConfig:
    try:
        return ServingConfig.model_validate(args)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{source}: `args.{where}`: {first['msg']} (got {first['input']!r}).") from e


def _known(values: Any, model: type[BaseModel], source: str, where: str) -> None:
    """Raises UserError for keys that a model does not have."""
    if values is None or isinstance(values, str):  # num_replicas: auto, and the like
        return
    if not isinstance(values, dict):
        raise UserError(f"{source}: `{where or 'the file'}`: expected a mapping, got {values!r}.")
    names = {*model.model_fields, *(f.alias for f in model.model_fields.values() if f.alias)}
    if foreign := sorted(set(values) - names):
        raise UserError(
            f"{source}: `{f'{where}.' if where else ''}{foreign[0]}` is not known. Known: {', '.join(sorted(names))}."
        )


def of_options(gallery: str | None, data: str, host: str, port: int) -> dict[str, Any]:
    """What `pusa serve` was told, as a configuration for this machine. Raises UserError where others could come in
    without a key."""
    if gallery is None:
        raise UserError("Which gallery? Give --gallery FOLDER, or --config FILE.")
    marks = Gallery.open(gallery).marks
    keys = [name for name, _, _, revoked in Keys(Database(data)).all() if revoked is None]
    if not keys and not is_loopback(host):
        raise UserError(
            f"{host} can be reached from other machines, and there are no keys. Make one first: "
            f"pusa keys add NAME --role reviewer --data {data}"
        )
    path = str(Path(data).resolve())
    gallery = gallery if "://" in gallery else str(Path(gallery).resolve())
    small: dict[str, Any] = {"num_cpus": 0.1}
    return {
        "http_options": {"host": host, "port": port, "request_timeout_s": SECONDS},
        "applications": [{
            "name": "pusa", "route_prefix": "/", "import_path": IMPORT_PATH,
            "args": {"gallery": gallery, "data": path, "access": "keys" if keys else "open",
                     "stages": {"keypoints": {"marks": marks}}},  # described as the gallery's, at once
            "deployments": [{"name": name, "ray_actor_options": small | _gpu(name)} for name in DEPLOYMENTS],
        }],
    }  # fmt: skip


def _gpu(name: str) -> dict[str, Any]:
    """Networks share the GPU of this machine, should it have one."""
    import torch

    return {"num_gpus": 0.4} if name in ("Detector", "Describer") and torch.cuda.is_available() else {}


def run(values: dict[str, Any], cpus: int | None, told: Callable[[str], None]) -> None:
    """Runs the application on this machine, until it is interrupted or told to end. `told`: gets its address once it
    answers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # jobs are left to whoever comes next
    with started(values, cpus) as address:
        told(address)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(1)


@contextlib.contextmanager
def started(values: dict[str, Any], cpus: int | None = None) -> Any:
    """The application, running in a Ray session of its own or in the one that is there; gives its address."""
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from serving.deployments import application as assembled

    application = values["applications"][0]
    config = load_config(ServingConfig, overrides=application["args"])
    http = values.get("http_options") or {}
    own = not ray.is_initialized()
    if own:
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR,
                 log_to_driver=False, object_store_memory=OBJECT_STORE_BYTES)  # fmt: skip
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options=HTTPOptions(**http))
        serve.run(assembled(config, application.get("deployments") or []), name="pusa", route_prefix="/")
        host = http.get("host", "127.0.0.1")
        yield f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{http.get('port', 8000)}"
    finally:
        serve.shutdown()
        if own:
            ray.shutdown()
