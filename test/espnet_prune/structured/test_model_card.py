import yaml

from espnet_prune.structured.model_card import model_card


def front_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_what_is_not_known_is_left_out():
    card = model_card("Title", "It loads.", "import this", pipeline_tag="")
    assert front_of(card) == {"tags": ["espnet_prune", "pruned"]}
    assert card.endswith("---\n\n# Title\n\nIt loads.\n\n```python\nimport this\n```\n")


def test_a_hub_links_only_names_of_a_hub(tmp_path, monkeypatch):
    def base(name):
        card = model_card("T", "L", "c", ["More."], base_model=name, license_name="mit: yes")
        assert f"Pruned from {name} with espnet_prune. Licence: mit: yes." in card
        assert card.endswith("```\n\nMore.\n") and front_of(card)["license"] == "mit: yes"
        return front_of(card).get("base_model")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp/teacher").mkdir(parents=True)
    assert base("openai/whisper-tiny.en") == "openai/whisper-tiny.en"
    assert base("exp/teacher") is None and base("/a/b") is None and base("teacher") is None
