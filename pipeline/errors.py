"""What can go wrong, as exceptions whose message is one line for the person who runs the pipeline.

A message says where, what was found, what was expected and what to do.
"""

from __future__ import annotations

# Why a video has no features. The list is fixed, so that counts can be compared between runs and between groups.
REASONS = {
    "unavailable": "the source says that the video is gone: removed, private or never there",
    "blocked": "the source refuses it to this place, age or account",
    "network": "the connection failed, stalled or was throttled; another try may succeed",
    "not_found": "no file for this video in any of the folders or archives",
    "empty": "the file has no bytes",
    "not_media": "the file is not a video container (an HTML page, text, an archive, a playlist)",
    "no_video": "no video stream, or none that holds more than a still cover picture",
    "no_audio": "no audio stream",
    "too_short": "shorter than one window of the extractor",
    "truncated": "the streams end before the length that the container states",
    "corrupt": "the streams are there but can't be decoded",
    "encrypted": "the streams are encrypted",
    "too_large": "the picture is larger than the decoder is allowed to open",
    "decoder_hung": "every decoder reached its time limit",
    "decoder_crashed": "every decoder died or ran out of its memory limit",
}


class PipelineError(Exception):
    """Base of everything that a user's input, settings, files or machine can cause."""


class SettingsError(PipelineError):
    """A setting, name or option is not what it may be."""


class ArtefactError(PipelineError):
    """An HDF5 artefact is missing, of another schema, or not what its schema says."""


class DamagedArtefact(ArtefactError):
    """An HDF5 artefact can't be read as it was written: truncated, or a checksum does not fit."""

    def __init__(self, path, found: str):
        self.path = path
        self.found = found
        super().__init__(f"{path} is damaged ({found}); expected the file as it was written: delete it and run again")

    def __reduce__(self):
        return type(self), (self.path, self.found)


class WeightsError(PipelineError):
    """A weight file is missing, is something else, or lacks a tensor."""


class VideoError(PipelineError):
    """One video can't be used. It is recorded with its reason; the rest goes on."""

    def __init__(self, reason: str, detail: str):
        if reason not in REASONS:
            raise ValueError(f"reason {reason!r} is not one of {sorted(REASONS)}")
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")

    def __reduce__(self):
        return type(self), (self.reason, self.detail)
