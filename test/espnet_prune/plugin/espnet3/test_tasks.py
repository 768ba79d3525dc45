"""`task:` of ESPnet 3."""

import importlib

import pytest

from espnet_prune.plugin import registry
from espnet_prune.plugin.espnet3 import tasks
from test.espnet_prune.plugin.espnet3.small_espnet import python, write_espnet


@pytest.fixture
def espnet(tmp_path):
    write_espnet(tmp_path)
    return tmp_path


def test_espnet_3_has_the_plugins_that_the_table_gives_to_the_task_it_copies(espnet):
    code = """
        print(tasks.asr.__name__)
        print(*sorted(tasks.asr.encoder_choices.classes.values()), sep="\\n")
        import espnet2.tasks.asr as second
        print(second.encoder_choices.classes == tasks.asr.encoder_choices.classes)
        print(second.frontend_choices.classes == tasks.asr.frontend_choices.classes)
    """
    module, *targets, encoders, frontends = python(espnet, code)
    assert module == "espnet3.systems.esp2_asr.task"
    assert "espnet_prune.plugin.pruned_ssl:PrunedSSLEncoder" in targets
    assert "espnet_prune.plugin.espnet_encoder:PrunedEncoder" in targets
    assert encoders == frontends == "True"


def test_a_task_that_espnet_3_does_not_copy_is_espnet_2s(espnet):
    code = """
        print(tasks.cls.__name__, sorted(tasks.cls.encoder_choices.classes))
    """
    (line,) = python(espnet, code)
    assert line == "espnet2.tasks.cls ['frame_probe', 'pruned_ssl', 'token_pruning']"


def test_tasks_that_are_not_there(espnet):
    code = """
        try:
            tasks.tts
        except AttributeError as error:
            print(error)
    """
    (line,) = python(espnet, code)
    assert line.startswith("there are no tasks 'tts', choose from aqa, asr, asr_transducer, ")


@pytest.mark.parametrize("module", registry.COPIES)
def test_real_copies_have_all_that_the_original_has(module):
    pytest.importorskip("espnet3", reason="ESPnet 3 comes with ESPnet 202611")
    registry.register()
    copy, name = importlib.import_module(module), registry.COPIES[module]
    assert getattr(tasks, name) is copy
    original = importlib.import_module(f"espnet2.tasks.{name}")
    for plugin in registry.PLUGINS:
        for table in plugin.tables:
            if table.startswith(f"{name}."):
                variable = table.removeprefix(f"{name}.")
                classes = [getattr(each, variable).classes for each in (copy, original)]
                assert classes[0][plugin.name] is classes[1][plugin.name] is plugin.load()
