"""`model:` of an inference config of ESPnet 3."""

from test.espnet_prune.plugin.espnet3.small_espnet import python, write_espnet


def test_inference_knows_the_plugins(tmp_path):
    write_espnet(tmp_path)
    assert python(tmp_path, "print(bin.asr_inference.kinds)") == ["['pruned_ssl']"]


def test_inference_that_is_not_there(tmp_path):
    write_espnet(tmp_path)
    code = """
        for name in ("asr_interference", "needy", "__path__"):
            try:
                getattr(bin, name)
            except (AttributeError, ModuleNotFoundError) as error:
                print(type(error).__name__, error)
    """
    assert python(tmp_path, code) == [
        "AttributeError ESPnet has no module espnet2.bin.asr_interference",
        "ModuleNotFoundError No module named 'package_that_is_not_there'",
        "AttributeError module 'espnet_prune.plugin.espnet3.bin' has no attribute '__path__'",
    ]
