"""Experiment trackers and model hubs must not learn of a rehearsal.

Most trackers have a variable that switches them off. Where what the code says goes before the variable
(`wandb.init(mode="online")`), and for uploads to the Hugging Face hub, which no variable refuses, the package's own
functions are replaced when the script imports it.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

#: Documented variables. TensorBoard, Aim and DVCLive write files, which are held as all files are.
_OFF = {
    "WANDB_MODE": "disabled",
    "WEAVE_DISABLED": "true",
    "COMET_MODE": "DISABLED",  # transformers
    "COMET_AUTO_LOG_DISABLE": "1",  # comet_ml: Experiment(disabled=None) reads it
    "COMET_START_ONLINE": "0",
    "CLEARML_OFFLINE_MODE": "1",
    "NEPTUNE_MODE": "offline",
    "SWANLAB_MODE": "disabled",
    "POLYAXON_NO_OP": "1",
    "DVC_STUDIO_OFFLINE": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "Agg",  # no window that waits to be closed
}
#: Without a network a download must fail at once; with one, offline mode would only refuse what training may read.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
#: A server that the environment names; without the variable, MLflow writes to a local folder, which is held.
_SERVERS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")

#: What changes a repository on the hub; reading is as before.
_UPLOADS = (
    "create_branch create_collection create_commit create_discussion create_pull_request create_repo create_tag "
    "delete_branch delete_file delete_files delete_folder delete_repo delete_tag move_repo preupload_lfs_files "
    "super_squash_history update_repo_settings update_repo_visibility upload_file upload_folder upload_large_folder"
).split()


def switch_off(network: bool, local_files_are_held: bool) -> None:
    """Switch trackers and uploads off in this process, and in those it starts as far as variables do."""
    os.environ.update(_OFF)
    if not network:
        os.environ.update(_OFFLINE)
    patches = dict(_PATCHES)
    if local_files_are_held:
        for name in _SERVERS:
            if not _is_local(os.environ.get(name, "")):
                del os.environ[name]
        patches["mlflow"] = _mlflow
    finder = _Finder(patches)
    for name, patch in patches.items():
        if name in sys.modules:
            patch(sys.modules[name])
    sys.meta_path.insert(0, finder)


class _Finder(importlib.abc.MetaPathFinder):
    """Lets a module be imported as it is, and changes it when that is done."""

    def __init__(self, patches: dict[str, Callable[[Any], None]]) -> None:
        self.patches = patches

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.patches:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        load, patch = spec.loader.exec_module, self.patches[name]

        def load_and_patch(module: ModuleType) -> None:
            load(module)
            patch(module)

        spec.loader.exec_module = load_and_patch  # type: ignore[method-assign]
        return spec


def _with_mode(name: str, mode: str) -> Callable[[Any], None]:
    """The module's function ``name`` is called with this mode, whatever the code asks for."""

    def patch(module: Any) -> None:
        original = getattr(module, name, None)
        if original is None:
            return

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **{**kwargs, "mode": mode})

        setattr(module, name, call)

    return patch


def _hub(module: Any) -> None:
    """Uploads return what they would where nothing can be uploaded: the address of a repository, or nothing."""

    def create_repo(self: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        return module.RepoUrl(f"{self.endpoint}/{repo_id if '/' in repo_id else 'rehearsal/' + repo_id}")

    def nothing(self: Any, *args: Any, **kwargs: Any) -> None:
        return None

    for name in _UPLOADS:
        if hasattr(module.HfApi, name):
            setattr(module.HfApi, name, create_repo if name == "create_repo" else nothing)
            if hasattr(module, name):  # the module's functions are methods of one instance
                setattr(module, name, getattr(module.api, name))


def _mlflow(module: Any) -> None:
    for name in ("set_tracking_uri", "set_registry_uri"):
        original = getattr(module, name, None)
        if original is not None:
            setattr(module, name, _if_local(original))


def _if_local(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(original)
    def call(uri: Any, *args: Any, **kwargs: Any) -> None:
        if _is_local(str(uri)):
            original(uri, *args, **kwargs)

    return call


def _is_local(uri: str) -> bool:
    return ("://" not in uri and uri != "databricks") or uri.startswith(("file:", "sqlite:"))


_PATCHES: dict[str, Callable[[Any], None]] = {
    "wandb": _with_mode("init", "disabled"),
    "swanlab": _with_mode("init", "disabled"),
    "neptune": _with_mode("init_run", "offline"),
    "huggingface_hub.hf_api": _hub,
}
