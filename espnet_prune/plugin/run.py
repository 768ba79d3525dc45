"""Run a Python program, any of ESPnet's say, with this package's plugins in ESPnet's tables.

usage: python3 -m espnet_prune.plugin.run [-m] MODULE [ARG ...]
       python3 -m espnet_prune.plugin.run SCRIPT.py [ARG ...]
       python3 -m espnet_prune.plugin.run -c CODE [ARG ...]

MODULE, SCRIPT.py or CODE runs as by python3 itself, and ESPnet's YAML files can say

    frontend: pruned_ssl        # in every task that reads speech
    encoder: pruned_ssl         # from the waveform, e.g. for fine-tuning

examples:
  python3 -m espnet_prune.plugin.run espnet2.bin.asr_train --config conf/train_asr.yaml ...
  python3 -m espnet_prune.plugin.run espnet2.bin.asr_inference --help
  ./run.sh --python "python3 -m espnet_prune.plugin.run"     # a whole ESPnet recipe, unmodified
"""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

from espnet_prune.plugin.registry import register
from espnet_prune.plugin.startup import faster, provide_editdistance

# Packages whose command lines are run by calling their `main`, see `_run_module`.
OURS_AND_ESPNETS = ("espnet2", "espnet_prune")

# At module level, because a process that `torch.multiprocessing` spawns imports this file anew
# (as "__mp_main__") and must have the plugins, too.
register()
faster()
provide_editdistance()
if __name__ == "__mp_main__":  # of a training on several GPUs
    from espnet_prune.plugin.trainer import survive_kills

    survive_kills()


def main(argv: list[str] | None = None) -> None:
    """Run what the command line says."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__.partition("\n\n")[2], end="")
        return
    what = argv.pop(0)
    if what in ("-m", "-c"):
        if not argv:
            sys.exit(f"error: {what} needs an argument, see --help")
        run = _run_module if what == "-m" else _run_code
        run(argv.pop(0), argv)
    elif what.startswith("-"):
        sys.exit(f"error: unknown option {what}, see --help")
    elif what.endswith(".py") or "/" in what:
        _run_script(what, argv)
    else:
        _run_module(what, argv)


def _run_module(name: str, args: list[str]) -> None:
    """As `python3 -m name`.

    ESPnet's multi-GPU training spawns processes, which import the main module anew. So that it
    stays this one, ESPnet's modules and ours are imported and their `main` is called.
    """
    spec = _find(name)
    if spec is None:
        sys.exit(f"error: no module named '{name}'")
    if spec.submodule_search_locations is not None:
        spec = _find(f"{name}.__main__")
        if spec is None:
            sys.exit(f"error: '{name}' is a package, name one of its modules")
    sys.argv = [spec.origin or spec.name, *args]
    if spec.name.startswith("espnet2.bin.") and spec.name.endswith("_train"):
        from espnet_prune.plugin.trainer import survive_kills

        survive_kills()
    if spec.name.partition(".")[0] in OURS_AND_ESPNETS:
        module = importlib.import_module(spec.name)
        if hasattr(module, "main"):
            status = module.main()
            sys.exit(status if isinstance(status, int) else 0)
    runpy.run_module(spec.name, run_name="__main__", alter_sys=True)


def _find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:  # no such package; not a module's name
        missing = getattr(error, "name", None)
        if missing and not name.startswith(missing):
            raise  # the package is there, but something that it imports is not
        return None


def _run_script(path: str, args: list[str]) -> None:
    """As `python3 path`."""
    if not Path(path).is_file():
        sys.exit(f"error: no such file: {path}")
    sys.argv = [path, *args]
    if not getattr(sys.flags, "safe_path", False):  # the option -P of Python 3.11
        sys.path[0] = str(Path(path).resolve().parent)
    runpy.run_path(path, run_name="__main__")


def _run_code(code: str, args: list[str]) -> None:
    """As `python3 -c code`."""
    sys.argv = ["-c", *args]
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), module.__dict__)


if __name__ == "__main__":
    main()
