"""A small ESPnet in place of the real one, which takes seconds to import."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
TABLE = "types.SimpleNamespace(classes={}, base_type=None)"
MODULES = {
    "espnet2/tasks/asr.py": f"frontend_choices, encoder_choices = {TABLE}, {TABLE}",
    "espnet2/tasks/cls.py": (
        f"frontend_choices, encoder_choices, decoder_choices = {TABLE}, {TABLE}, {TABLE}"
    ),
    "espnet3/systems/esp2_asr/task.py": f"frontend_choices, encoder_choices = {TABLE}, {TABLE}",
    "espnet2/bin/asr_inference.py": (
        "from espnet2.tasks import asr\nkinds = sorted(asr.frontend_choices.classes)"
    ),
    "espnet2/bin/needy.py": "import package_that_is_not_there",
}


def write_espnet(folder: Path) -> None:
    for name, code in MODULES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for package in list(file.relative_to(folder).parents)[:-1]:
            (folder / package / "__init__.py").touch()
        file.write_text(f"import types\n{code}\n")


def python(espnet: Path, code: str) -> list[str]:
    """What the code prints, in a fresh interpreter that finds this ESPnet."""
    head = """
        from espnet_prune.plugin import registry
        registry.Plugin.load = lambda plugin: plugin.target
        from espnet_prune.plugin.espnet3 import bin, tasks
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)],
        env={"PYTHONPATH": f"{espnet}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
