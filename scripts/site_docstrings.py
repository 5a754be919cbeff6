"""What the API pages take from the code beside docstrings: an extension of griffe, which reads it for mkdocstrings.

- A field whose default is `HfArg(help="…")` is described by its help, as in `mmer train --help`.
- Classes decorated with huggingface_hub's `strict` are dataclasses.
- What a function returns is described in sentences. Griffe would take all before a colon for the type, so the
  annotation is written there.
- [`Name`] in a docstring is a link to the class or function of that name, as in transformers.
"""

import ast
import re
from collections import defaultdict

from griffe import Attribute, Class, Decorator, Docstring, ExprCall, ExprName, Extension, Module

NOT_GIVEN = {"auto_map", "custom_pipelines"}  # fields of configs that no caller gives
RETURNS = re.compile(r"^Returns:\n +", re.MULTILINE)
REFERENCE = re.compile(r"\[`(\w+)`\](?![\[(])")


def help_of(attribute: Attribute) -> str | None:
    """The text of `help=` in the call that makes the default of a field."""
    call = attribute.value
    if not isinstance(call, ExprCall) or call.function.canonical_name != "HfArg":
        return None
    written = next((str(given.value) for given in call.arguments if getattr(given, "name", None) == "help"), None)
    try:
        return written and ast.literal_eval(written)
    except ValueError:  # computed
        return None


class SiteDocstrings(Extension):
    def on_attribute_instance(self, *, attr: Attribute, **_) -> None:
        if attr.docstring is None and (text := help_of(attr)):
            attr.docstring = Docstring(text, parent=attr)

    def on_class_members(self, *, cls: Class, **_) -> None:
        if any(decorator.callable_path.endswith(".strict") for decorator in cls.decorators):
            cls.decorators.append(Decorator(ExprName("dataclasses.dataclass"), lineno=None, endlineno=None))
            for name in NOT_GIVEN & cls.members.keys():
                cls.members[name].annotation = None  # no parameter

    def on_package(self, *, pkg: Module, **_) -> None:
        objects = list(walk(pkg))
        paths = defaultdict(list)
        for item in objects:
            if item.is_class or item.is_function:
                paths[item.name].append(item.path)

        def link(found: re.Match) -> str:
            known = paths[found[1]]
            return f"[`{found[1]}`][{known[0]}]" if len(known) == 1 else f"`{found[1]}`"

        for item in objects:
            if item.docstring:
                item.docstring.value = REFERENCE.sub(link, item.docstring.value)
                if item.is_function and item.returns:
                    item.docstring.value = RETURNS.sub(rf"\g<0>{item.returns}: ", item.docstring.value)


def walk(item):
    """An object and all that is defined in it."""
    yield item
    for member in item.members.values():
        if not member.is_alias:
            yield from walk(member)
