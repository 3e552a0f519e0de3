"""``module:name`` and ``path/file.py:name``: import the module as Python would, and find the object in it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from lrlint.errors import UsageError
from lrlint.targets.arguments import listing, near
from lrlint.targets.provenance.literals import MarkingLoader
from lrlint.targets.provenance.project import Project

#: Leads the name of a file whose own name is taken.
_PRIVATE = "_lrlint_target_"

#: Modules that earlier targets brought in, by name: another project may have its own of that name.
_imported: dict[str, ModuleType] = {}


@dataclass(frozen=True)
class Spec:
    """A parsed target: the module's dotted name or its file, and the attribute in it."""

    text: str
    module: str
    file: Path | None
    attribute: str

    @property
    def paths(self) -> list[Path]:
        """Folders that must be importable: the file's (and that of the package it belongs to), and the current one."""
        paths = [_cwd()]
        if self.file is not None:
            package = _package(self.file)[0]
            paths = [package, self.file.parent, *paths] if package != self.file.parent else [package, *paths]
        return list(dict.fromkeys(paths))


def parse(text: str) -> Spec:
    """Split a target. Raises UsageError when it has no ``:name``, or its file does not exist."""
    module_text, colon, attribute = text.rpartition(":")
    if (
        not colon
        or attribute.endswith(".py")
        or os.sep in attribute
        or (len(module_text) == 1 and module_text.isalpha())
    ):
        module_text, attribute = text, ""
    is_file = module_text.endswith((".py", ".ipynb")) or "/" in module_text or os.sep in module_text
    if not module_text or (not is_file and not all(part.isidentifier() for part in module_text.split("."))):
        raise UsageError(f"{text!r} is no target", "write package.module:factory or path/file.py:factory")
    if not is_file:
        return Spec(text, module_text, None, attribute)
    file = Path(os.path.expanduser(module_text)).absolute()
    if file.is_dir():
        raise UsageError(f"{module_text} is a folder", "name a file and its factory: path/file.py:factory")
    if not file.is_file():
        names = sorted(p.name for p in file.parent.glob("*.py")) if file.parent.is_dir() else []
        raise UsageError(f"there is no file {module_text}" + (near(file.name, names) if names else ""))
    if file.suffix != ".py":
        raise UsageError(
            f"{module_text} is not a Python file", "a notebook's setup is checked in it: lrlint.check(model, optimizer)"
        )
    return Spec(text, "", file, attribute)


def load_module(spec: Spec, project: Project, hook: bool) -> ModuleType:
    """Import the target's module; what importing it raises passes through. Raises UsageError where there is none."""
    _evict()
    before = set(sys.modules)
    try:
        return _load_file(spec.file, project, hook) if spec.file else _import(spec)
    finally:
        folders = {os.path.realpath(path) for path in spec.paths}
        for name in sys.modules.keys() - before:
            if "." not in name and not _home(sys.modules[name]).isdisjoint(folders):
                _imported[name] = sys.modules[name]


def main_file(spec: Spec) -> tuple[Path, str]:
    """(the file to execute, its package) of a script given by its path or, as for ``python -m``, by its module.

    Raises UsageError where there is none.
    """
    if spec.file is not None:
        return spec.file, ""
    name = spec.module
    try:
        module_spec = importlib.util.find_spec(name)
        if module_spec is not None and module_spec.submodule_search_locations is not None:
            name += ".__main__"
            module_spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        module_spec = None
    if module_spec is None or not str(module_spec.origin).endswith(".py"):
        hint = "a script is a file, --script train.py, or a module as for `python -m`, --script package.train"
        raise UsageError(f"there is no script {spec.text}", hint)
    return Path(str(module_spec.origin)), name.rpartition(".")[0]


def run_main(file: Path, package: str, project: Project, hook: bool) -> None:
    """Execute the file as ``__main__``, as ``python file.py`` does; what it raises passes through.

    In a ``package`` it may import relatively, as with ``python -m``.
    """
    name = "__main__"
    loader = MarkingLoader(name, str(file), project, cached=False) if hook else _Uncached(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None  # a loader was given
    module = importlib.util.module_from_spec(spec)
    module.__spec__ = None  # as a script's
    module.__package__ = package or None
    replaced = sys.modules[name]
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    finally:
        sys.modules[name] = replaced


def find(spec: Spec, module: ModuleType) -> Any:
    """The attribute of the module. Raises UsageError with the factories there are."""
    known = candidates(module)
    if not spec.attribute:
        listed = listing(known) or "none"
        raise UsageError(f"{spec.text} names no factory", f"write {spec.text}:NAME; there is {listed}")
    member: Any = module
    for part in spec.attribute.split("."):
        try:
            member = getattr(member, part)
        except AttributeError:
            module_name = spec.file.name if spec.file else spec.module
            raise UsageError(f"{module_name} has no {spec.attribute!r}" + near(spec.attribute, known)) from None
    return member


def candidates(module: ModuleType) -> list[str]:
    """Names in the module that could be a factory, in order of definition."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    return [name for name in own if not inspect.isclass(vars(module)[name]) or _is_target_class(vars(module)[name])]


def _is_target_class(item: type) -> bool:
    return any(base.__name__ in ("LightningModule", "Trainer") for base in item.__mro__)


def _import(spec: Spec) -> ModuleType:
    try:
        return importlib.import_module(spec.module)
    except ModuleNotFoundError as error:
        is_own = error.name is not None and (spec.module + ".").startswith(error.name + ".")
        if not is_own or _came_from_user(error):
            raise
        names = sorted(p.stem for p in _cwd().glob("*.py")) + sorted(
            p.parent.name for p in _cwd().glob("*/__init__.py")
        )
        hint = f"it was looked for in {_cwd().name or '/'} and where Python looks; a file is path/file.py:factory"
        raise UsageError(
            f"there is no module {error.name}" + (near(spec.module, names) if names else ""), hint
        ) from None


def _came_from_user(error: BaseException) -> bool:
    """Whether the import failed inside an imported module, and not for the name we asked for."""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if (
            name != __file__
            and not name.startswith("<frozen")
            and os.path.basename(os.path.dirname(name)) != "importlib"
        ):
            return True
        trace = trace.tb_next
    return False


def _load_file(file: Path, project: Project, hook: bool) -> ModuleType:
    """Execute the file as the module that `import` would make of it, afresh each time and without a cache on disk."""
    name = _module_name(file)
    parent = name.rpartition(".")[0]
    if parent:
        importlib.import_module(parent)
    loader: SourceFileLoader = (
        MarkingLoader(name, str(file), project, cached=False) if hook else _Uncached(name, str(file))
    )
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None:
        raise UsageError(f"{file.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    replaced = sys.modules.get(name)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        if replaced is not None:
            sys.modules[name] = replaced
        raise
    return sys.modules.get(name, module)


class _Uncached(SourceFileLoader):
    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _module_name(file: Path) -> str:
    """The file's dotted name; a private one where the plain name means something else in this process."""
    package, name = _package(file)
    top = name.partition(".")[0]
    if not all(part.isidentifier() for part in name.split(".")) or top in sys.stdlib_module_names:
        return _PRIVATE + "".join(c if c.isalnum() else "_" for c in file.stem)
    known = sys.modules.get(top)
    if known is not None and os.path.realpath(package) not in _home(known):
        return _PRIVATE + "".join(c if c.isalnum() else "_" for c in file.stem)
    return name


def _package(file: Path) -> tuple[Path, str]:
    """(the folder from which the file is importable, its dotted name there)."""
    folder, parts = file.parent, [] if file.stem == "__init__" else [file.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier() and folder != folder.parent:
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts) or file.parent.name


def _evict() -> None:
    """Forget modules of earlier targets that mean something else from here (two projects with a `utils`)."""
    for name, module in list(_imported.items()):
        if name.startswith(_PRIVATE) or sys.modules.get(name) is not module:
            continue
        spec = PathFinder.find_spec(name)
        folders = () if spec is None else spec.submodule_search_locations or (os.path.dirname(spec.origin or ""),)
        if _home(module).isdisjoint(_folders(folders, bool(spec and spec.submodule_search_locations))):
            for other in [n for n in sys.modules if n == name or n.startswith(name + ".")]:
                sys.modules.pop(other)
            _imported.pop(name)


def _home(module: Any) -> set[str]:
    """The folders from which a top-level module is importable."""
    package = getattr(module, "__path__", None)
    if package is not None:
        return _folders(package, True)
    file = getattr(module, "__file__", None)
    return _folders((os.path.dirname(file),), False) if isinstance(file, str) else set()


def _folders(paths: Iterable[str], is_package: bool) -> set[str]:
    return {os.path.dirname(os.path.realpath(path)) if is_package else os.path.realpath(path) for path in paths}


def _cwd() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise UsageError("the current folder does not exist any more", "change to another one") from None
