"""Write a fitted pipeline, raw text in and label out, as an MLflow model, and read it back.

Loading runs no code that comes with the file. A skops file is opened with this module's list of
trusted types, whatever the artifact itself asks to be trusted. A pickle (`--format cloudpickle`)
has no such guard and is loaded only where the caller says so.

A version carries the digests of its files, `DIGESTS`, from the moment it is registered. With other
files it is not loaded: weights of the same types are trusted, and could answer anything.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sentiment.errors import OutOfReachError, TrackingError
from sentiment.masking import line
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
DIGESTS = "file_digests"  # tag of a version: SHA-256 of each file of its artifact, as JSON
NOTE = "registered_model_meta"  # what MLflow adds to the files of a version that it fetches


def log_pipeline(
    store: Store, run_id: str, pipeline: Any, examples: Sequence[str], file_format: str = "skops"
) -> tuple[str, int]:
    """Write a fitted pipeline as the run's model; return its `models:/…` URI and the file's bytes.

    The model has the name of its algorithm. `examples` are raw texts for the input example. A model
    that an interrupted attempt left behind on the same run is removed first.
    """
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    use_uri(store.uri)
    run = store.client.get_run(run_id)
    for left in _logged_models(store, run.info.experiment_id, run_id):
        store.client.delete_logged_model(left)
    name = run.data.params.get("model", "model")
    logged = store.client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run_id,
        params={key: str(value) for key, value in run.data.params.items()},
    )
    sizes: list[int] = []
    with warnings.catch_warnings(), quiet("mlflow.sklearn", "mlflow.utils.environment"):
        warnings.simplefilter("ignore")
        Model.log(
            artifact_path=None,
            name=name,
            flavor=_flavor(file_format, sizes),
            run_id=run_id,
            model_id=logged.model_id,
            sk_model=pipeline,
            serialization_format=file_format,
            skops_trusted_types=TRUSTED_TYPES if file_format == "skops" else None,
            pip_requirements=[f"{one}=={version(one)}" for one in (*REQUIREMENTS, file_format)],
            code_paths=[str(PROJECT / file) for file in CODE],
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

    Raises `TrackingError` when there is none, when it is a version whose files are not those that
    were registered, when the file holds types that `TRUSTED_TYPES` does not name, or when it is a
    pickle and `trust_pickle` is false.
    """
    digests = _registered_digests(store, uri)
    with _fetched(store, uri) as folder:
        return read_pipeline(folder, digests, trust_pickle=trust_pickle)


def file_digests(store: Store, uri: str) -> str:
    """Return the `DIGESTS` of a model that is to be registered. Raises `TrackingError`."""
    with _fetched(store, uri) as folder:
        found = {name: _digest(file.read_bytes()) for name, file in _files(folder).items()}
    return json.dumps(found, sort_keys=True)


def verify(store: Store, uri: str) -> int:
    """Return how many files a version has, all as they were registered; else `TrackingError`.

    It is an `OutOfReachError` where they cannot be fetched.
    """
    digests = _registered_digests(store, uri)
    with _fetched(store, uri) as folder:
        files = _files(folder)
        _check(files, digests or "")
        return len(files)


@contextmanager
def _fetched(store: Store, uri: str) -> Iterator[Path]:
    """Yield a folder with a copy of a model's files, for the block."""
    import mlflow

    use_uri(store.uri)
    # a folder of our own: MLflow leaves behind what it fetches, and a server loads for months
    with tempfile.TemporaryDirectory() as copied:
        try:
            with quiet("mlflow.store.artifact"):
                folder = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=copied)
        except Exception as error:  # each kind of store raises what its own library does
            raise OutOfReachError(f"{uri}: no model to load ({line(error)})") from None
        yield Path(folder)


def _registered_digests(store: Store, uri: str) -> str | None:
    """Return the digests of a version's files, "" where it has none; None for no version."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    model, slash, number = name.partition("/")
    if at:
        version = store.client.get_model_version_by_alias(model, alias)
    elif slash:
        version = store.client.get_model_version(model, number)
    else:
        return None
    return str(version.tags.get(DIGESTS, ""))


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of an artifact by their names in it."""
    found = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != NOTE)
    return {file.relative_to(folder).as_posix(): file for file in found}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check(files: dict[str, Path], digests: str) -> None:
    """Raise `TrackingError` unless these are the files of the digests, no more and no fewer."""
    try:
        expected = json.loads(digests or "{}")
    except ValueError:
        expected = {}
    if not expected:
        raise TrackingError(
            f"it has no tag {DIGESTS}, so nobody knows whether its files are those that were "
            "registered; train it anew"
        )
    for name in sorted({*files, *expected}):
        if name not in files:
            what = "is missing"
        elif _digest(files[name].read_bytes()) != expected.get(name):
            what = "is not the one that was registered"
        else:
            continue
        raise TrackingError(
            f"{line(name)} {what}; put it back from a copy, or train the version anew"
        )


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


def read_pipeline(folder: Path, digests: str | None = None, *, trust_pickle: bool = False) -> Any:
    """Return the fitted pipeline of an artifact's folder; raise as `load_pipeline` does.

    The folder is the caller's own, which nobody else changes. `digests` is a version's tag, None
    for files that belong to no version.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    if digests is not None:
        _check(_files(folder), digests)
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
