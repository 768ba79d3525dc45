import sys

from espnet_prune.plugin.startup import import_later


def test_a_module_is_run_when_it_is_first_used(tmp_path, monkeypatch):
    (tmp_path / "slow_module.py").write_text("import sys\nsys.slow_was_run = True\nvalue = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "slow_was_run", False, raising=False)
    import_later("slow_module")
    import slow_module

    assert not sys.slow_was_run
    assert not hasattr(slow_module, "__file__") and not sys.slow_was_run
    assert slow_module.value == 3 and sys.slow_was_run


def test_what_is_not_there_or_imported_already_is_left_alone():
    import_later("no_such_module_at_all")
    assert "no_such_module_at_all" not in sys.modules
    import_later("sys")
    assert sys.modules["sys"] is sys
