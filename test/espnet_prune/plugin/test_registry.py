"""Which of ESPnet's tables get the plugins, and when."""

import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

from espnet_prune.plugin import registry
from espnet_prune.plugin.registry import PLUGINS, Plugin, add, register

# Tables of frontends and encoders that do not get `pruned_ssl`: the task calls what is in them in a
# way that a speech encoder cannot answer, and "invalid choice" says so earlier than a failing
# training.
SKIPPED = {
    "beats.encoder_choices": "pre-training: BEATs only",
    "enh.encoder_choices": "signal transform with an inverse, of another base class",
    "enh_s2t.enh_encoder_choices": "as in enh",
    "enh_tse.encoder_choices": "as in enh",
    "hubert.encoder_choices": "pre-training: predicts masked targets inside the encoder",
    "lid.encoder_choices": "gets no lengths and returns (B, D, T); use the frontend",
    "mt.encoder_choices": "gets text",
    "mt.frontend_choices": "gets text",
    "s2t_ctc.encoder_choices": "cross-attends to a prompt",
    "spk.encoder_choices": "as in lid",
    "ssl.encoder_choices": "pre-training: gets masked features and returns every layer",
}


ROOT = Path(__file__).resolve().parents[3]
NAME = "pruned_ssl"


def python(code: str, *paths: Path) -> str:
    """Output of code in a fresh interpreter that finds packages in `paths` first."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": ":".join(map(str, (*paths, ROOT))), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def fake_espnet(tmp_path: Path, **tasks: str) -> Path:
    """A package "espnet2.tasks" that imports at once."""
    folder = tmp_path / "espnet2" / "tasks"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    for name, code in tasks.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
    return tmp_path


def module_of(table: str) -> str:
    return table.partition(".")[0]


@pytest.fixture(scope="module")
def tables() -> dict[str, object]:
    """All of ESPnet's `ClassChoices`, by "<task module>.<variable>", imported after `register`."""
    register()
    import espnet2.tasks
    from espnet2.train.class_choices import ClassChoices

    found = {}
    for info in pkgutil.iter_modules(espnet2.tasks.__path__):
        try:
            module = importlib.import_module(f"espnet2.tasks.{info.name}")
        except ModuleNotFoundError:  # an optional dependency of that task, such as pyworld for TTS
            optional = ("cls", "svs", "lid", "spk", "gan_svs", "gan_tts", "tts", "tts2")
            assert info.name in optional
            continue
        for variable, value in vars(module).items():
            if isinstance(value, ClassChoices):
                found[f"{info.name}.{variable}"] = value
    return found


def test_every_table_of_frontends_and_encoders_is_decided_on(tables):
    declared = {table for plugin in PLUGINS for table in plugin.tables} | set(SKIPPED)
    known = {id(choices) for table, choices in tables.items() if table in declared}
    missed = [
        table
        for table, choices in tables.items()
        if choices.name in ("frontend", "encoder") and id(choices) not in known
    ]
    assert not missed
    assert len([c for c in tables.values() if c.name in ("frontend", "encoder")]) >= 30


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.target)
def test_every_declared_table_has_its_class(tables, plugin):
    present = {module_of(table) for table in tables}
    for table in plugin.tables:
        if module_of(table) in present:
            assert tables[table].classes[plugin.name] is plugin.load(), table
            assert issubclass(plugin.load(), tables[table].base_type or object)
    assert {"asr", "slu", "st", "diar", "s2t"} <= present


def test_skipped_tables_are_left_alone(tables):
    assert SKIPPED.keys() & tables.keys()
    for table in SKIPPED.keys() & tables.keys():
        own = {plugin.name for plugin in PLUGINS if table in plugin.tables}
        others = {plugin.name for plugin in PLUGINS} - own
        assert not others & tables[table].classes.keys(), table


def test_copies_of_asr_tables_have_it_too(tables):
    frontend, encoder = (plugin.load() for plugin in PLUGINS if plugin.name == NAME)
    assert tables["enh_s2t.frontend_choices"].classes[NAME] is frontend
    assert tables["enh_s2t.asr_encoder_choices"].classes[NAME] is encoder


def test_registering_again_changes_nothing(tables):
    before = {table: dict(choices.classes) for table, choices in tables.items()}
    register()
    assert {table: dict(choices.classes) for table, choices in tables.items()} == before
    assert sum(isinstance(f, registry._AfterImport) for f in sys.meta_path) == 1


def test_registers_into_modules_that_are_imported_already(tables):
    del tables["asr.frontend_choices"].classes[NAME]
    register()
    assert tables["asr.frontend_choices"].classes[NAME] is PLUGINS[0].load()


def test_imported_module_is_as_if_python_had_imported_it(tables):
    module = sys.modules["espnet2.tasks.asr"]
    assert module.__loader__ is module.__spec__.loader
    assert "class ASRTask" in inspect.getsource(module)


def test_name_taken_by_another_class_is_refused(tables):
    from espnet2.train.class_choices import ClassChoices

    choices = ClassChoices("frontend", {NAME: dict})
    with pytest.raises(ValueError, match=r"asr\.x: 'pruned_ssl' is taken by builtins\.dict"):
        add(choices, PLUGINS[0], "asr.x")
    assert choices.classes == {NAME: dict}


def test_wrong_base_class_is_refused(tables):
    enh = tables["enh.encoder_choices"]
    with pytest.raises(ValueError, match=r"enh: takes espnet2\.enh\.\S+AbsEncoder only"):
        add(enh, PLUGINS[1], "enh")
    assert NAME not in enh.classes


@pytest.mark.parametrize("name", ["none", "nil", "null", "Pruned_SSL"])
def test_names_that_espnet_cannot_select_are_refused(name):
    with pytest.raises(ValueError, match=name):
        Plugin(name, "builtins:dict", ())


def test_other_espnet_version_without_a_table_warns(caplog):
    with caplog.at_level(logging.WARNING):
        registry._fill(types.ModuleType("espnet2.tasks.uasr"))
    assert caplog.messages == ["espnet2.tasks.uasr has no frontend_choices: no 'pruned_ssl' there"]


def test_other_espnet_version_without_a_module_does_not_matter(monkeypatch):
    monkeypatch.setattr(
        registry, "PLUGINS", (Plugin(NAME, "builtins:dict", ("gone.encoder_choices",)),)
    )
    register()


def test_registering_imports_nothing_heavy():
    code = """
        import sys
        from espnet_prune.plugin.registry import register
        register()
        print([name for name in ("torch", "espnet2", "transformers") if name in sys.modules])
    """
    assert python(code) == "[]"


def test_failing_task_module_fails_as_without_us(tmp_path):
    path = fake_espnet(tmp_path, cls="import package_that_is_not_there")
    code = """
        import importlib, sys
        from espnet_prune.plugin.registry import register
        register()
        for _ in range(2):
            try:
                import espnet2.tasks.cls
            except ModuleNotFoundError as error:
                print(error.name, "espnet2.tasks.cls" in sys.modules)
    """
    assert python(code, path).splitlines() == ["package_that_is_not_there False"] * 2


def test_collision_shows_when_the_module_is_imported(tmp_path):
    path = fake_espnet(
        tmp_path,
        uasr="""
        import types
        frontend_choices = types.SimpleNamespace(classes={"pruned_ssl": int}, base_type=None)
        """,
    )
    code = """
        from espnet_prune.plugin import registry
        registry.Plugin.load = lambda plugin: str
        registry.register()
        try:
            import espnet2.tasks.uasr
        except ValueError as error:
            print(error)
    """
    assert python(code, path).startswith(
        "espnet2.tasks.uasr.frontend_choices: 'pruned_ssl' is taken by builtins.int, so "
    )
