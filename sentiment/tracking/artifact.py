"""Write a fitted pipeline, raw text in and label out, as an MLflow model, and read it back.

Loading runs no code that comes with the file. A skops file is opened with this module's list of
trusted types, whatever the artifact itself asks to be trusted. A pickle (`--format cloudpickle`)
has no such guard and is loaded only where the caller says so.
"""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sentiment.errors import TrackingError
from sentiment.tracking.store import PROJECT, Store, quiet, use_uri

if TYPE_CHECKING:
    from sentiment.data.reviews import TextHashes

FORMATS = {"skops": "model.skops", "cloudpickle": "model.pkl"}
# All else in a pipeline skops trusts by itself. Only the cleaning is not scikit-learn's.
TRUSTED_TYPES = [
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "text_cleaning.TextCleaner",
]
# What a model needs to answer, pinned to the versions it was trained with. MLflow could infer the
# list, but loads the model in a process of its own for that: eight seconds a model.
REQUIREMENTS = ("scikit-learn", "scipy", "numpy", "pandas", "nltk", "emoji")
CODE = ("text_cleaning.py",)  # the files of ours that a model needs to be loaded anywhere
INPUT_COLUMN = "text"


def log_pipeline(
    store: Store, run_id: str, pipeline: Any, examples: Sequence[str], file_format: str = "skops"
) -> tuple[str, int]:
    """Write a fitted pipeline as the run's model; return its `models:/…` URI and the file's bytes.

    `examples` are raw texts for the input example. A model that an interrupted attempt left
    behind on the same run is removed first.
    """
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    use_uri(store.uri)
    run = store.client.get_run(run_id)
    for left in _logged_models(store, run.info.experiment_id, run_id):
        store.client.delete_logged_model(left)
    logged = store.client.create_logged_model(
        run.info.experiment_id,
        name="model",
        source_run_id=run_id,
        params={key: str(value) for key, value in run.data.params.items()},
    )
    sizes: list[int] = []
    with warnings.catch_warnings(), quiet("mlflow.sklearn", "mlflow.utils.environment"):
        warnings.simplefilter("ignore")
        Model.log(
            artifact_path=None,
            name="model",
            flavor=_flavor(file_format, sizes),
            run_id=run_id,
            model_id=logged.model_id,
            sk_model=pipeline,
            serialization_format=file_format,
            skops_trusted_types=TRUSTED_TYPES if file_format == "skops" else None,
            pip_requirements=[f"{name}=={version(name)}" for name in (*REQUIREMENTS, file_format)],
            code_paths=[str(PROJECT / name) for name in CODE],
            signature=ModelSignature(
                inputs=Schema([ColSpec(DataType.string, INPUT_COLUMN)]),
                outputs=Schema([ColSpec(DataType.long)]),
            ),
            input_example=pd.DataFrame({INPUT_COLUMN: list(examples)}),
            # MLflow would load the model once more and scan every installed package for it; the
            # file was opened when it was written, and the tests load it in a process of its own
            validate_serving_input=False,
        )
    store.client.finalize_logged_model(logged.model_id, "READY")
    return f"models:/{logged.model_id}", sizes[0]


def load_pipeline(store: Store, uri: str, *, trust_pickle: bool = False) -> Any:
    """Return the fitted pipeline behind a `models:/…` URI of the store.

    Raises `TrackingError` when there is none, when the file holds types that `TRUSTED_TYPES` does
    not name, or when it is a pickle and `trust_pickle` is false.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    use_uri(store.uri)
    # a folder of our own: MLflow leaves behind what it fetches, and a server loads for months
    with tempfile.TemporaryDirectory() as copied:
        try:
            with quiet("mlflow.store.artifact"):
                folder = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=copied)
        except (MlflowException, OSError) as error:
            raise TrackingError(f"{uri}: no model to load ({error})") from None
        return read_pipeline(Path(folder), trust_pickle=trust_pickle)


def read_text_hashes(store: Store, run_id: str) -> TextHashes:
    """Return the hashes of the cleaned texts that a run was trained on (`reviews.text_hashes`).

    Raises what MLflow or the disk raises, and `ValueError` for a damaged file.
    """
    import numpy as np

    from sentiment.data.reviews import TEXT_HASHES  # not for `--help`, which takes FORMATS

    with tempfile.TemporaryDirectory() as folder:
        file = store.client.download_artifacts(run_id, TEXT_HASHES, folder)
        hashes: TextHashes = np.load(file, allow_pickle=False)
    return hashes


def read_pipeline(folder: Path, *, trust_pickle: bool = False) -> Any:
    """Return the fitted pipeline of an artifact's folder; raise as `load_pipeline` does."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    safe, pickled = folder / FORMATS["skops"], folder / FORMATS["cloudpickle"]
    if safe.exists():
        try:
            return skops.io.load(safe, trusted=TRUSTED_TYPES)
        except UntrustedTypesFoundException as error:
            raise TrackingError(f"{safe}: not loaded, it asks for more trust: {error}") from None
    if pickled.exists() and trust_pickle:
        import cloudpickle

        with pickled.open("rb") as file:
            return cloudpickle.load(file)
    if pickled.exists():
        raise TrackingError(
            f"{pickled}: is a pickle, which runs whatever code is in it; log it with --format skops"
        )
    raise TrackingError(f"{folder}: has neither {' nor '.join(FORMATS.values())}")


def _flavor(file_format: str, sizes: list[int]) -> SimpleNamespace:
    """Return MLflow's scikit-learn flavour, with the skops file compressed to a twentieth."""
    import mlflow.sklearn

    def save_model(path: str, *, validate_serving_input: bool, **arguments: Any) -> None:
        mlflow.sklearn.save_model(path=path, **arguments)
        file = Path(path) / FORMATS[file_format]
        if file_format == "skops":
            before = file.stat().st_size
            _compress(file)
            mlflow_model = arguments["mlflow_model"]
            mlflow_model.model_size_bytes -= before - file.stat().st_size
            mlflow_model.save(str(Path(path) / "MLmodel"))
        sizes.append(file.stat().st_size)

    return SimpleNamespace(__name__="mlflow.sklearn", save_model=save_model)


def _compress(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _logged_models(store: Store, experiment: str, run_id: str) -> list[str]:
    found = store.client.search_logged_models(
        [experiment], filter_string=f"source_run_id = '{run_id}'"
    )
    return [str(model.model_id) for model in found]
