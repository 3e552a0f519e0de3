"""The files of a training loop as syntax trees, and where the functions that they call are defined."""

from __future__ import annotations

import ast
import linecache
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import Any

from lrlint.targets.provenance.project import Project, syntax_tree

#: A longer file is generated, or no training script.
_LONGEST = 20_000
#: Files beside the target's that are opened to find the functions it calls.
_MOST_FILES = 12
#: A file that is called into is worth parsing if it holds one of these.
_TRAINS = (".step(", ".backward(", "clip_grad", "unscale_(", "zero_grad", ".grad", "param_groups")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class File:
    """A source file: its functions and classes by name, and what its imports bind (name → module, name in it)."""

    path: str
    lines: Sequence[str]
    tree: ast.Module
    functions: dict[str, Function] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    @cached_property
    def bound(self) -> dict[str, list[ast.AST | None]]:
        """What the statements outside any function bind; see `bindings`."""
        return bindings(self.tree.body)

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """The code outside functions, and every function of the file."""
        return (Scope(self, self.tree), *_functions(self, self.tree, None))

    def scope(self, node: Function, owner: ast.ClassDef | None = None) -> Scope:
        """The one of `places` that is this function; a place of its own where it is none of the file's."""
        return self._scope_of.get(node) or Scope(self, node, owner)

    @cached_property
    def _scope_of(self) -> dict[ast.AST, Scope]:
        return {scope.node: scope for scope in self.scopes}


@dataclass(frozen=True, eq=False)
class Scope:
    """A function (or the code outside any) in its file and class; ``inner`` are the functions defined in it, by name."""

    file: File
    node: Any
    owner: ast.ClassDef | None = None

    @cached_property
    def nodes(self) -> list[Any]:
        """Its nodes, without those of functions and classes in it."""
        return list(own(self.node))

    @cached_property
    def inner(self) -> dict[str, Scope]:
        return {n.name: self.file.scope(n, self.owner) for n in self.nodes if isinstance(n, Function)}

    @cached_property
    def bound(self) -> dict[str, list[ast.AST | None]]:
        """See `bindings`."""
        return bindings(self.nodes)

    @cached_property
    def visible(self) -> dict[str, list[ast.AST | None]]:
        """What it binds itself, and what it sees of its file."""
        return {**self.file.bound, **self.bound}

    @property
    def label(self) -> str:
        return label_of(self.file, self.node)


class Code:
    """The project's files, each read and parsed at most once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._files: dict[str, File | None] = {}
        self._modules: dict[tuple[str, str], File | None] = {}
        self._next: dict[ast.AST, list[Scope]] = {}

    @property
    def files(self) -> tuple[File, ...]:
        """What was read so far."""
        return tuple(file for file in self._files.values() if file is not None)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.files)

    def file(self, path: str) -> File | None:
        """The file at a path below the root; None where it cannot be read, or is too long to be hand-written."""
        if path not in self._files:
            self._files[path] = self._read(path)
        return self._files[path]

    def _training_file(self, path: str) -> File | None:
        lines = linecache.getlines(str(self._project.root / path)) if path not in self._files else []
        if path not in self._files and not any(word in line for line in lines for word in _TRAINS):
            self._files[path] = None
        return self.file(path)

    def _read(self, path: str) -> File | None:
        lines = linecache.getlines(str(self._project.root / path))
        return None if not lines or len(lines) > _LONGEST else _parsed(path, tuple(lines))

    def reached(self, scope: Scope) -> list[Scope]:
        """A function, those that stand in it, and those of the project that any of these calls."""
        scope_of: dict[ast.AST, Scope] = {}
        waiting = deque([scope])
        while waiting:
            scope = waiting.popleft()
            if scope.node not in scope_of:
                scope_of[scope.node] = scope
                waiting += self._reached_next(scope)
        return list(scope_of.values())

    def _reached_next(self, scope: Scope) -> list[Scope]:
        """The functions that stand in a function, and those that it calls."""
        if scope.node not in self._next:
            called = [self.called(scope, node) for node in scope.nodes if isinstance(node, ast.Call)]
            self._next[scope.node] = [*scope.inner.values(), *(inside for inside in called if inside is not None)]
        return self._next[scope.node]

    def reach(self, scope: Scope) -> list[tuple[File, ast.stmt]]:
        """The functions or classes of a file that a function stands in, and those that what it calls stands in."""
        statements: list[tuple[File, ast.stmt]] = []
        for inside in self.reached(scope):
            line = getattr(inside.node, "lineno", None)
            statements += [
                (inside.file, n) for n in inside.file.tree.body if line is None or n.lineno <= line <= _end(n)
            ]
        return statements

    def called(self, scope: Scope, call: ast.Call) -> Scope | None:
        """The function of the project that is called; None where that cannot be told."""
        function = call.func
        if isinstance(function, ast.Name):
            if function.id in scope.inner:
                return scope.inner[function.id]
            return self._find(scope.file, function.id)
        if not isinstance(function, ast.Attribute):
            return None
        holder = function.value
        if isinstance(holder, ast.Name) and holder.id in ("self", "cls") and scope.owner is not None:
            return self._method(scope.file, scope.owner, function.attr)
        if isinstance(holder, ast.Call) and last(holder.func) == "super" and scope.owner is not None:
            return self._inherited(scope.file, scope.owner, function.attr)
        if isinstance(holder, ast.Name) and holder.id in scope.file.imports:
            module, name = scope.file.imports[holder.id]
            inside = self._module(scope.file, f"{module}.{name}".replace("..", ".") if name else module)
            return None if inside is None else self._find(inside, function.attr, follow=False)
        return None

    def _find(self, file: File, name: str, follow: bool = True) -> Scope | None:
        if name in file.functions:
            return file.scope(file.functions[name])
        if follow and name in file.imports and file.imports[name][1]:
            module, original = file.imports[name]
            inside = self._module(file, module)
            return None if inside is None else self._find(inside, original, follow=False)
        return None

    def _method(self, file: File, owner: ast.ClassDef, name: str, depth: int = 0) -> Scope | None:
        for node in owner.body:
            if isinstance(node, Function) and node.name == name:
                return file.scope(node, owner)
        return self._inherited(file, owner, name, depth)

    def _inherited(self, file: File, owner: ast.ClassDef, name: str, depth: int = 0) -> Scope | None:
        for base in owner.bases if depth < 4 else ():
            home, base_name = file, last(base)
            if base_name not in file.classes and base_name in file.imports:
                module, base_name = file.imports[base_name]
                module_file = self._module(file, module)
                if module_file is None:
                    continue
                home = module_file
            if base_name in home.classes and home.classes[base_name] is not owner:
                method = self._method(home, home.classes[base_name], name, depth + 1)
                if method is not None:
                    return method
        return None

    def _module(self, file: File, module: str) -> File | None:
        """The project's file of an imported module, where it trains; None for any other module."""
        key = (file.path, module)
        if key not in self._modules:
            self._modules[key] = self._locate(file, module)
        return self._modules[key]

    def _locate(self, file: File, module: str) -> File | None:
        """Looks beside the importing file and in the folders above."""
        parts = module.lstrip(".").split(".")
        folder = PurePosixPath(file.path).parent
        level = len(module) - len(module.lstrip("."))
        above = [folder, *folder.parents]
        folders = above[level - 1 : level] if level else above
        for start in folders:
            base = start.joinpath(*parts) if parts != [""] else start
            for path in (f"{base}.py", f"{base}/__init__.py"):
                known = path in self._files
                if not known and (len(self._files) >= _MOST_FILES or not (self._project.root / path).is_file()):
                    continue
                if known or self._project.owns(str(self._project.root / path)):
                    return self._training_file(path)
        return None


@lru_cache(maxsize=16)  # as many as there are trees that `syntax_tree` shares
def _parsed(path: str, lines: tuple[str, ...]) -> File | None:
    """A file of these lines, shared by all who read it; None where it is no Python."""
    tree = syntax_tree("".join(lines))
    if tree is None:
        return None
    file = File(path, lines, tree)
    for node in tree.body:
        if isinstance(node, Function):
            file.functions[node.name] = node
        elif isinstance(node, ast.ClassDef):
            file.classes[node.name] = node
    for part in ast.walk(tree):
        if isinstance(part, ast.Import):
            file.imports.update((name.asname or name.name, (name.name, "")) for name in part.names)
        elif isinstance(part, ast.ImportFrom):
            module = "." * part.level + (part.module or "")
            file.imports.update((name.asname or name.name, (module, name.name)) for name in part.names)
    return file


def _functions(file: File, node: ast.AST, owner: ast.ClassDef | None) -> Iterator[Scope]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield Scope(file, child, owner)
        inner = child if isinstance(child, ast.ClassDef) else owner
        if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _functions(file, child, inner)


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def label_of(file: File, node: Any) -> str:
    """How the calls of a function say which one they belong to."""
    return f"{file.path}:{getattr(node, 'name', '')}:{getattr(node, 'lineno', 0)}"


def own(scope: Any) -> Iterator[Any]:
    """The nodes of a function, without those of functions and classes in it."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from own(node)


def calls_in(node: ast.AST) -> Iterator[ast.Call]:
    """Calls in a statement, in the order in which they are made."""
    if isinstance(node, ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        yield from calls_in(child)
    if isinstance(node, ast.Call):
        yield node


def last(node: ast.AST) -> str:
    """``c`` of ``a.b.c`` and of ``c``; of an index what is indexed."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return last(node.value)
    return node.id if isinstance(node, ast.Name) else ""


def bindings(nodes: Sequence[Any]) -> dict[str, list[ast.AST | None]]:
    """What each name is bound to: the assigned expressions; None for any other way of binding it."""
    values: dict[str, list[ast.AST | None]] = {}
    plain: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Assign) and node.value is not None:
            for target in node.targets:
                if isinstance(target, (ast.Name, ast.Attribute)):
                    plain.add(id(target))
                    values.setdefault(ast.unparse(target), []).append(node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            plain.add(id(node.target))
            values.setdefault(ast.unparse(node.target), []).append(node.value)
    for node in nodes:
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store) and id(node) not in plain:
            values.setdefault(ast.unparse(node), []).append(None)
    return values
