"""Shows the doctest examples of docstrings as code in the documentation (a griffe extension)."""

import re

from griffe import Extension

#: a run of lines that begins with a prompt, up to an empty line or the end
EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)


class FencedExamples(Extension):
    def on_instance(self, *, obj, **kwargs) -> None:
        if getattr(obj, "docstring", None):
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)


def fenced(match: re.Match) -> str:
    return "{0}```python\n{1}\n{0}```".format(match["indent"], match[0])
