from PIL import Image

from espnet_prune.evaluate.pruning_plots import plot_gates


def test_the_figure_of_gates_is_drawn_and_the_same_again(tmp_path):
    for name in ("a.png", "b.png"):
        plot_gates(tmp_path / name, samples=50)
    a, b = (Image.open(tmp_path / name) for name in ("a.png", "b.png"))
    assert a.size[0] > 600 and a.tobytes() == b.tobytes()
    assert len(a.getcolors(1 << 20)) > 10
