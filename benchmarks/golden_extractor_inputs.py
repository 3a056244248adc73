"""Golden windows, frames and spectrograms: everything before the networks."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import numpy as np
import torch

from benchmarks.golden_comparison import Comparison
from extractors.audio import selavi_spectrogram, vggish_examples, vggish_log_mel
from extractors.frames import c3d_frames, selavi_frames
from pipeline import crops, windows
from pipeline.errors import VideoError
from pipeline.resampling import resample

PUBLISHED = frozenset({"selavi_windows", "selavi_short", "c3d_windows", "vggish_windows"})
FRAMES_ATOL = 1e-5
SOUND_ATOL = 1e-4
# Of each golden colour mode: whether C3D's channels are reversed, and the plan that decodes for it.
C3D_MODES = {
    "bgr_plain": (True, "c3d_frames"),
    "bgr_wrap": (True, "c3d_frames_negative"),
    "rgb_plain": (False, "c3d_frames"),
}
OUR_RELEASE = "/resampy_0.2.2"
OTHER_RELEASE = "made with a release of resampy whose filter the published features did not use"
LONG = 10**9


def timeline(frames: int, fps: float, tick: int = 1) -> windows.Timeline:
    """-> a video of constant rate whose header says so."""
    index = np.arange(frames)
    return windows.Timeline(index / fps, frames / fps, index * tick, fps, frames, frames * tick)


def image(file: Comparison, name: str) -> np.ndarray:
    """-> the generated frames that a name like ``x_frames_26x120x160`` means: (N, H, W, 3) uint8 RGB."""
    count, height, width = (int(part) for part in name.rpartition("_")[2].split("x"))
    return file.recipe.frames_uint8(file.set_name, name, count, height, width)


def selavi_windows(file: Comparison) -> None:
    for name in file.names("/frame_index"):
        length, rate, tick = name.split("_")
        fps = float(Fraction(rate[3:].replace("over", "/")))
        video = timeline(int(length[1:]), fps, int(tick[4:]))
        try:
            frames = windows.selavi_frames(video, LONG, PUBLISHED).frames
            first = windows.selavi_audio(video, LONG, PUBLISHED).first
            starts = windows.published_selavi_starts(video.header_frames, fps)
        except VideoError:
            frames, first, starts = np.empty((0, windows.SELAVI_FRAMES)), np.empty(0), np.empty(0)
        file.exact(f"{name}/frame_index", frames)
        file.exact(f"{name}/start_frame", starts)
        file.exact(f"{name}/audio_start_sample_44100", first)


def selavi_video_pre(file: Comparison) -> None:
    close = partial(file.absolute, tolerance=FRAMES_ATOL)
    for name in file.names("/fps"):
        frames = image(file, name)
        file.exact(f"{name}/input_sha256", file.recipe.sha256_of(frames))
        video = timeline(len(frames), float(file[f"{name}/fps"]))
        chosen = windows.published_selavi_frames(video).frames[0]
        x = selavi_frames(torch.from_numpy(crops.selavi_crop(frames[chosen])[None]))[0].numpy()
        file.parts(name, x, FRAMES_ATOL)
        close(f"{name}/corner_rows", x[:, [0, 29]][:, :, [0, 111]])
        close(f"{name}/per_channel_mean", x.mean(axis=(1, 2, 3), dtype=np.float64))
        file.moments(f"{name}/mean_std_abssum", x, FRAMES_ATOL)
    file.settings("*/fps")


def selavi_audio_pre(file: Comparison) -> None:
    def wave(name: str, rate: int, count: int) -> np.ndarray:
        return file.recipe.waveform_int16(file.set_name, name, rate, count)

    def spectrum(samples: np.ndarray, rate: int = 44100) -> np.ndarray:
        return selavi_spectrogram(torch.from_numpy(samples.astype(np.float32))[None], rate)[0].numpy()

    def second(samples: np.ndarray, start_s: float, rate: int = 44100) -> np.ndarray:
        # The released code slices as Python does: a start before zero counts from the end.
        start = min(int(np.rint(start_s * rate)), len(samples) - rate)
        return samples[start : start + rate if start >= 0 else len(samples)]

    def compare(key: str, x: np.ndarray) -> None:
        file.parts(key, x, SOUND_ATOL)
        file.moments(f"{key}/mean_std_abssum", x, SOUND_ATOL)

    if file.has("fr_sec"):
        whole = wave("selavi_wave", 44100, int(file["wave/n_samples"]))
        file.exact("wave/input_sha256", file.recipe.sha256_of(whole))
        for index, start_s in enumerate(file["fr_sec"]):
            compare(f"spec{index}", spectrum(second(whole, start_s)))
    for name in (each for each in ("short", "tiny") if file.has(f"{each}/")):
        samples = wave(f"selavi_wave_{name}", 44100, int(file[f"{name}/n_samples"]))
        file.exact(f"{name}/input_sha256", file.recipe.sha256_of(samples))
        x = spectrum(second(samples, 0.0))
        file.exact(f"{name}/shape", x.shape)
        compare(name, x)
    if file.has("silence/"):
        file.absolute("silence/value", np.unique(spectrum(np.zeros(44100))), SOUND_ATOL)
    if file.has("extra_24000Hz/"):
        start_s = float(file["extra_24000Hz/fr_sec"])
        x = spectrum(second(wave("selavi_wave24k", 24000, 48000), start_s, 24000), 24000)
        file.exact("extra_24000Hz/shape", x.shape)
        compare("extra_24000Hz", x)
    file.settings("*n_samples", "*fr_sec")


def c3d_clips(frames: np.ndarray, mode: str) -> torch.Tensor:
    """RGB frames (N, H, W, 3) uint8 at 25 a second -> (clips, 3, 16, 112, 112) float32, in a golden colour mode."""
    reversed_channels, plan = C3D_MODES[mode]
    clips = windows.c3d_frames(timeline(len(frames), 25.0), LONG, PUBLISHED)
    small = windows.PLANS[plan].crop(frames)[clips.frames]  # type: ignore[union-attr]
    return c3d_frames(torch.from_numpy(small), torch.from_numpy(clips.valid), reversed_channels, True)


def c3d_pre(file: Comparison) -> None:
    close = partial(file.absolute, tolerance=FRAMES_ATOL)
    for name in file.names("/input_sha256"):
        frames = image(file, name)
        file.exact(f"{name}/input_sha256", file.recipe.sha256_of(frames))
        for mode in (each for each in C3D_MODES if file.has(f"{name}/{each}/")):
            x = c3d_clips(frames, mode).numpy()
            file.parts(f"{name}/{mode}", x, FRAMES_ATOL)
            close(f"{name}/{mode}/per_clip_channel_mean", x.mean(axis=(2, 3, 4), dtype=np.float64))
            file.moments(f"{name}/{mode}/mean_std_abssum", x, FRAMES_ATOL)
            if mode != "rgb_plain":
                close(f"{name}/{mode}/clip0_frame5_row56", x[0, :, 5, 56])
    file.ignore("*/info_*", "a fact about a torchvision release, not an output")


def vggish_sound(file: Comparison, name: str, rate: int, count: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """-> the generated int16 waveform, and what VGGish hears of it: mono at 16 kHz, float64."""
    wave = file.recipe.waveform_int16(file.set_name, name, rate, count, channels)
    mono = wave / 32768.0
    mono = mono.mean(axis=1) if channels > 1 else mono
    return wave, resample(mono, rate)


def vggish_input(sound: np.ndarray) -> torch.Tensor:
    """Samples (n,) at 16 kHz -> examples (n, 1, 96, 64) float32, cut as the published windows cut them."""
    first = windows.vggish_audio(timeline(1, 1.0), len(sound), PUBLISHED).first
    clips = np.stack([sound[start : start + windows.VGGISH_SAMPLES] for start in first])
    return vggish_examples(vggish_log_mel(torch.from_numpy(clips)))


def vggish_pre(file: Comparison) -> None:
    for name in file.names("/rate_samples_channels"):
        facts = [int(value) for value in file[f"{name}/rate_samples_channels"]]
        wave, sound = vggish_sound(file, name, *facts)
        file.exact(f"{name}/input_sha256", file.recipe.sha256_of(wave))
        here = name if facts[0] == 16000 else name + OUR_RELEASE
        x = vggish_input(sound).numpy()[:, 0]
        file.parts(f"{here}/log_mel", x, SOUND_ATOL)
        file.exact(f"{here}/n_examples", len(x))
        file.moments(f"{here}/mean_std_abssum", x, SOUND_ATOL)
        if facts[0] != 16000:
            file.exact(f"{here}/resampled_len", len(sound))
            file.absolute(f"{here}/resampled_::37", sound[::37], SOUND_ATOL)
    if file.has("edge/"):
        file.exact("edge/n_examples", [vggish_examples_of(int(count)) for count in file["edge/n_samples_16k"]])
    if file.has("silence/"):
        silence = vggish_log_mel(torch.zeros(1, windows.VGGISH_SAMPLES)).numpy()
        file.absolute("silence/value", np.unique(silence), SOUND_ATOL)
    file.settings("edge/n_samples_16k", "*/rate_samples_channels")
    ignore_other_releases(file)


def vggish_examples_of(samples: int) -> int:
    """-> how many examples so many samples give."""
    try:
        return len(windows.vggish_audio(timeline(1, 1.0), samples, PUBLISHED).first)
    except VideoError:
        return 0


def ignore_other_releases(file: Comparison) -> None:
    for key in sorted(key for key in file.left if "/resampy_" in key and OUR_RELEASE not in key):
        file.ignore(key, OTHER_RELEASE)


FILES = {
    "selavi_windows": selavi_windows,
    "selavi_video_pre": selavi_video_pre,
    "selavi_audio_pre": selavi_audio_pre,
    "c3d_pre": c3d_pre,
    "vggish_pre": vggish_pre,
}
