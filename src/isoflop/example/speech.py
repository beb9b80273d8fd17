"""Voice activity in a stream: Silero's detector on synthetic voices among other sounds.

The weights are those in the package `silero-vad` (MIT), the network their published one. Voices are made here from
pulses and resonances, for no corpus of speech comes in a package: that the detector takes them for speech, and noise,
rumble and hum not, is what its score shows.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.nn import functional

from isoflop.method.shrink import Data, Workload
from isoflop.model.pull import held

Floats = NDArray[np.float64]

RATE_HZ = 16_000
FRAME, CONTEXT = 512, 64  # new samples of a frame, and those of the one before that it sees
FRAMES = 48  # of a clip: 1.5 s
_POINTS, _HOP = 256, 128  # of the Fourier transform
_WIDTH = 128

_LOUDNESS = 0.1  # of a voice (root mean square)
_RATIO_DB = (0.0, 20.0)  # of the voice to the noise
_RESONANCES = ((1.0, 60.0), (0.6, 90.0), (0.3, 120.0))  # strength and width (Hz) of each
# First three resonances of vowels (Hz) of men, Peterson and Barney 1952; from memory.
_VOWELS_HZ = np.array([(270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (570, 840, 2410), (300, 870, 2240)])


class Spectrum(nn.Module):
    """Frames [N, 576] to magnitudes [N, 129, 4], by convolution with the package's windowed waves."""

    def __init__(self) -> None:
        super().__init__()
        self.waves = nn.Conv1d(1, _POINTS + 2, _POINTS, _HOP, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Magnitude of each frequency."""
        mirrored = functional.pad(frames, (0, CONTEXT), mode="reflect").unsqueeze(1)
        real, imaginary = self.waves(mirrored).chunk(2, 1)
        return (real**2 + imaginary**2).sqrt()


class Detector(nn.Module):
    """Sound [B, 512 F] to the probability of speech in each frame [B, F].

    A frame's spectrum goes through four convolutions to one vector, and the vectors of the frames through a recurrent
    layer: so a stream can be heard frame by frame, with `forward_step`, at the same result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum()
        self.encoder = nn.Sequential(
            nn.Conv1d(_POINTS // 2 + 1, 128, 3, 1, 1),
            nn.ReLU(),
            nn.Conv1d(128, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv1d(64, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv1d(64, _WIDTH, 3, 1, 1),
            nn.ReLU(),
        )
        self.memory = nn.LSTM(_WIDTH, _WIDTH, batch_first=True)
        self.head = nn.Linear(_WIDTH, 1)

    def forward(self, sound: Tensor) -> Tensor:
        """The whole clip at once, from silence."""
        before = sound.new_zeros(len(sound), CONTEXT)
        seen = torch.cat([before, sound], 1).unfold(1, CONTEXT + FRAME, FRAME)
        heard = self.encoder(self.spectrum(seen.flatten(0, 1))).squeeze(2).unflatten(0, seen.shape[:2])
        return self._speech(self.memory(heard)[0])

    def forward_step(self, sound: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frame [B, 512] and what was kept of those before it, to its probability [B] and what to keep."""
        tail = sound.new_zeros(len(sound), CONTEXT) if state is None else state[0]
        heard = self.encoder(self.spectrum(torch.cat([tail, sound], 1))).transpose(1, 2)
        out, kept = self.memory(heard, None if state is None else state[1:])
        return self._speech(out)[:, 0], (sound[:, -CONTEXT:], *kept)

    def _speech(self, remembered: Tensor) -> Tensor:
        return self.head(remembered.relu()).squeeze(2).sigmoid()


def build() -> Detector:
    """The detector with its weights, in evaluation mode.

    Raises:
        ModelError: the weights are not here; the message names the command that fetches them.
    """
    stored = load_file(held("silero-vad")["silero_vad_16k.safetensors"])
    ours = {"spectrum.waves.weight": stored["stft_conv.weight"]}
    for name, value in stored.items():
        layer, what = name.split(".")
        if layer == "lstm_cell":
            ours[f"memory.{what}_l0"] = value
        elif layer == "final_conv":
            ours[f"head.{what}"] = value.squeeze(-1) if what == "weight" else value
        elif layer != "stft_conv":
            ours[f"encoder.{2 * int(layer[-1]) - 2}.{what}"] = value
    model = Detector()
    model.load_state_dict(ours)
    return model.eval()


def right(probabilities: Tensor, spoken: Tensor) -> Tensor:
    """Share of the frames [B, F] of each clip told right [B]; frames at an edge (0.5) do not count."""
    counted = spoken != 0.5
    told = (probabilities > 0.5) == (spoken > 0.5)
    return (told & counted).sum(1) / counted.sum(1).clamp_min(1)


def clips(count: int, seed: int) -> Data:
    """Clips of 1.5 s [N, 24576] and which frames are spoken [N, 48] (1, 0, or 0.5 at an edge)."""
    rng = np.random.default_rng(seed)
    made = [_clip(rng) for _ in range(count)]
    sound, spoken = (np.stack(side) for side in zip(*made))
    return Data((torch.tensor(sound, dtype=torch.float32),), torch.tensor(spoken, dtype=torch.float32))


def _clip(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """One voice from somewhere in the first part of a clip to somewhere in the last, in a noise of some kind."""
    n = FRAME * FRAMES
    start, end = int(rng.uniform(0.15, 0.4) * n), int(rng.uniform(0.6, 0.9) * n)
    sound = 10 ** (-rng.uniform(*_RATIO_DB) / 20) * _noise(rng, n)
    sound[start:end] += _voice(rng, end - start)
    spoken = np.zeros(n)
    spoken[start:end] = 1
    share = spoken.reshape(FRAMES, FRAME).mean(1)
    return _LOUDNESS * sound, np.where((share > 0) & (share < 1), 0.5, share)


def _voice(rng: np.random.Generator, n: int) -> Floats:
    """Harmonics of a gliding pitch under resonances that move from vowel to vowel, three to six a second."""
    t = np.arange(n) / RATE_HZ
    glide = 0.1 * np.sin(2 * np.pi * (rng.uniform(0.5, 2) * t + rng.uniform()))
    jitter = 0.01 * np.cumsum(rng.standard_normal(n)) / math.sqrt(RATE_HZ)
    f0 = rng.uniform(90, 220) * (1 + glide + jitter)
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    syllables_per_s = rng.uniform(3, 6)
    knots = np.arange(0, n / RATE_HZ + 1 / syllables_per_s, 1 / syllables_per_s)
    vowels = _VOWELS_HZ[rng.integers(len(_VOWELS_HZ), size=len(knots))] * rng.uniform(0.9, 1.2)
    resonances: list[tuple[Floats, float, float]] = [
        (np.interp(t, knots, column), *shape) for column, shape in zip(vowels.T, _RESONANCES)
    ]
    voice = np.zeros(n)
    for k in range(1, int(RATE_HZ / 4 / f0.max()) + 1):
        gain = sum(strength / (1 + ((k * f0 - at) / width) ** 2) for at, strength, width in resonances)
        voice += gain * np.sin(k * phase) / k**0.3
    voice *= np.abs(np.sin(np.pi * syllables_per_s * t)) ** 0.7
    return voice / voice.std()


def _noise(rng: np.random.Generator, n: int) -> Floats:
    """White noise, rumble or hum, of unit deviation."""
    match int(rng.integers(3)):
        case 0:
            noise = rng.standard_normal(n)
        case 1:
            noise = np.cumsum(rng.standard_normal(n))
            noise -= np.convolve(noise, np.ones(200) / 200, "same")
        case _:
            phase = 2 * np.pi * rng.uniform(50, 120) * np.arange(n) / RATE_HZ
            noise = sum((np.sin(k * phase + rng.uniform(0, 6)) for k in (1, 2, 3)), np.zeros(n))
    return noise / noise.std()


def workload(count: int = 60) -> Workload:
    """Tell speech: the share of frames told right, on `count` clips of 1.5 s a split."""
    calibration, dev, test = (clips(count, seed) for seed in (1, 2, 3))
    return Workload("speech", calibration, dev, test, score=right, loss=_loss, batch=20)


def _loss(probabilities: Tensor, spoken: Tensor) -> Tensor:
    return functional.binary_cross_entropy(probabilities, spoken)
