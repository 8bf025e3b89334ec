"""What the package is made of."""

import ast
import inspect
import pathlib
import sys
import typing
import unittest

import deputy
from deputy import models

FOLDER = pathlib.Path(deputy.__file__).parent


class Package(unittest.TestCase):
    @unittest.skipUnless(hasattr(sys, "stdlib_module_names"), "Python 3.10 knows the names of its own library")
    def test_it_needs_nothing_but_the_standard_library(self):
        files = list(FOLDER.glob("*.py"))
        self.assertGreater(len(files), 10)
        for file in files:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules = [node.module]
                else:
                    continue
                for module in modules:
                    self.assertIn(module.split(".")[0], sys.stdlib_module_names, file.name)

    def test_what_it_exports_is_there_described_and_typed(self):
        for name in deputy.__all__:
            self.assertTrue(hasattr(deputy, name), name)
        kinds = [deputy.Client, *(getattr(deputy, name) for name in deputy.__all__ if name.endswith("s") and name[0].isupper())]
        self.assertIn(deputy.Agents, kinds)
        for kind in kinds:
            self.assertTrue(kind.__doc__, kind)
            for name, method in inspect.getmembers(kind, inspect.isfunction):
                if name.startswith("_"):
                    continue
                self.assertTrue(method.__doc__, f"{kind.__name__}.{name}")
                hints = set(typing.get_type_hints(method))
                for parameter in inspect.signature(method).parameters:
                    self.assertTrue(parameter == "self" or parameter in hints, f"{kind.__name__}.{name}: {parameter}")
                self.assertIn("return", hints, f"{kind.__name__}.{name}")
        self.assertTrue((FOLDER / "py.typed").exists())

    def test_every_answer_says_what_it_is(self):
        for name, kind in inspect.getmembers(models, inspect.isclass):
            if kind.__module__ == models.__name__:
                self.assertTrue(kind.__doc__ and not kind.__doc__.startswith(name + "("), name)


if __name__ == "__main__":
    unittest.main()
