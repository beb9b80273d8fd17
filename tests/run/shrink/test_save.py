"""What is saved loads with the README's three lines, in a process that never saw this one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.run.shrink.toys import Gate, build, task  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.run.shrink.save import SaveError, save  # noqa: E402

ROOT = Path(__file__).parents[3]


def load_as_told(folder, blocked):
    """Run the README's lines elsewhere; the first test example's outputs."""
    lines = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    assert len(lines.splitlines()) == 3
    before = "import sys; sys.modules['isoflop'] = None\n" if blocked else ""
    inputs = f"import torch\ninputs = torch.load({str(folder.parent / 'inputs.pt')!r})"
    script = f"{before}{inputs}\n{lines}\nprint(output[0].tolist())"
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return torch.tensor(json.loads(run.stdout))


@pytest.fixture
def place(tmp_path):
    torch.set_num_threads(1)
    torch.save(task().test.inputs, tmp_path / "inputs.pt")
    return tmp_path


def test_a_plain_module_needs_no_isoflop(place):
    folder = save(build(), task(), place / "smaller", "as it was")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "model.pt"]
    wanted = build()(task().test.inputs[0])[0]
    assert torch.allclose(load_as_told(folder, blocked=True), wanted, atol=1e-5)
    words = (folder / "README.md").read_text()
    assert "It does not need isoflop" in words
    assert "- [N, 16] of torch.float32" in words
    save(build(), task(), folder, "again")
    assert "again." in (folder / "README.md").read_text()


def test_a_module_of_isoflops_classes_is_exported_or_says_that_it_needs_isoflop(place):
    """`Gate` derives from a class of isoflop and branches on its input, so that no graph can stand for it."""
    folder = save(Gate(build()), task(), place / "gate", "gated")
    assert "It needs isoflop, whose classes" in (folder / "README.md").read_text()
    wanted = Gate(build())(task().test.inputs[0])[0]
    assert torch.allclose(load_as_told(folder, blocked=False), wanted, atol=1e-5)


class Local(nn.Module):
    def __init__(self):
        super().__init__()
        self.made_here = lambda x: x[:, :4]

    def forward(self, x):
        return self.made_here(x)


def test_what_cannot_be_saved_leaves_nothing(place):
    with pytest.raises(SaveError, match="the model cannot be pickled"):
        save(Local(), task(), place / "no", "local")
    assert [p.name for p in place.iterdir()] == ["inputs.pt"]
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").touch()
    with pytest.raises(SaveError, match="mine holds something else; name a new folder"):
        save(build(), task(), place / "mine", "no")
