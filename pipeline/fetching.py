"""Single videos from the network, by yt-dlp as a library, and what its failures mean."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.storage import STORAGE_ERRORS

RETRIES = ("transient", "all", "none")
# H.264 with AAC where there is: every reader can decode it. Small pictures suffice, the extractors see 112 x 112.
FORMAT = "bv*[vcodec^=avc1][height<=480]+ba[acodec^=mp4a]/b[vcodec^=avc1][height<=480]/b[vcodec^=avc1]/bv*+ba/b"

# What the messages of yt-dlp's extractors mean; the first that fits counts. (pattern, reason, permanent)
MEANINGS: tuple[tuple[str, str, bool], ...] = (
    (r"service unavailable|bad gateway|gateway time|internal server error|connect to proxy|tunnel connection|temporar",
     "network", False),
    (r"not a bot|confirm you.re not|try again later|rate.?limit|too many requests|captcha", "network", False),
    (r"not (made (this video )?)?available in your country|geo.?restrict|blocked it in your|your location",
     "blocked", True),
    (r"confirm your age|age.?restricted|inappropriate for some users", "blocked", True),
    (r"members.only|join this channel|requires payment|premium|purchase|copyright grounds", "blocked", True),
    (r"private video|video is private|login required|sign in if you.ve been granted", "unavailable", True),
    (r"(video|recording|content|stream|clip|media|page|post) ((is|was|has been) )?(currently )?(unavailable|deleted)|"
     r"(video|recording|content|stream|clip|media|page|post) (is not|isn.t) available|no longer available|"
     r"been removed|been terminated|does(n.t| not) exist|been deleted|been closed", "unavailable", True),
    (r"\bDRM\b", "encrypted", True),
    (r"unsupported url|no video formats|no media found|no video could be found", "not_media", False),
)
THROTTLED = re.compile(
    r"not a bot|confirm you.re not|try again later|rate.?limit|too many requests|HTTP (Error )?429", re.IGNORECASE
)


@dataclass(frozen=True)
class FetchSettings:
    """How to fetch; ``acquire.AcquireSettings`` documents the fields."""

    url: str
    format: str = FORMAT
    timeout_s: float = 20.0
    tries: int = 3
    sleep_s: float = 5.0
    rate_limit_kb_s: int = 0
    cookies: str = ""
    proxy: str = ""


@dataclass(frozen=True)
class Outcome:
    """``path`` if it worked, else ``reason`` (one of errors.REASONS), ``detail`` and whether it will stay so.

    ``line``: what stands for the video in yt-dlp's list of what is done.
    """

    path: Path | None = None
    reason: str = ""
    detail: str = ""
    permanent: bool = False
    line: str = ""

    @property
    def throttled(self) -> bool:
        return THROTTLED.search(self.detail) is not None


def fetch(key: str, partial: Path, settings: FetchSettings) -> Outcome:
    """Fetch the video ``key`` to ``partial/<key>/``, where a try that was interrupted goes on.

    What the network or the source does is an outcome. Raises OSError if the file can't be stored.
    """
    from yt_dlp import YoutubeDL

    if not re.fullmatch(r"[\w-]+", key, re.ASCII):
        raise SettingsError(f"source key {key!r}: expected letters, digits, - and _ only")
    scratch = partial / key
    scratch.mkdir(parents=True, exist_ok=True)
    said = Said()
    chosen = options(scratch, settings, said)
    try:
        with YoutubeDL(chosen) as downloader:
            facts = downloader.extract_info(settings.url.replace("{id}", key), download=True) or {}
    except Exception as error:  # its extractors raise anything at all when a site has changed
        full = storage_error(error)
        if full:
            raise OSError(full, os.strerror(full), str(scratch)) from error
        with contextlib.suppress(OSError):
            scratch.rmdir()  # unless there is something to go on from
        reason, detail, permanent = meaning(error)
        warned = f" ({said.last[:140]})" if said.last else ""
        return Outcome(None, reason, detail[:150 if warned else 300] + warned, permanent)
    made = [Path(entry["filepath"]) for entry in facts.get("requested_downloads") or ()]
    if len(made) != 1 or not made[0].is_file():
        return Outcome(None, "not_media", f"yt-dlp made {len(made)} files, expected one video")
    return Outcome(made[0], line=f"{str(facts.get('extractor_key')).lower()} {facts.get('id')}")


def storage_error(error: BaseException) -> int | None:
    """-> errno of a full or forbidden disk somewhere among an error's causes."""
    for cause in causes(error):
        told = re.search(r"unable to (?:write data|open for writing|create directory).*\[Errno (\d+)\]", str(cause))
        number = int(told[1]) if told else getattr(cause, "errno", None)
        if number in STORAGE_ERRORS and (told or getattr(cause, "filename", None)):
            return number
    return None


def options(scratch: Path, settings: FetchSettings, said: Said) -> dict[str, Any]:
    """-> yt-dlp's options. It reads no configuration of the user's own."""
    from pipeline.media import ffmpeg_path

    def pause(n: int) -> float:
        return min(settings.sleep_s * 2.0**n, 60.0)

    chosen: dict[str, Any] = {
        "outtmpl": {"default": f"{str(scratch).replace('%', '%%')}/video.%(format_id)s.%(ext)s"},
        "format": settings.format,
        "merge_output_format": "mp4/mkv",
        "ffmpeg_location": ffmpeg_path(),
        "noplaylist": True,
        "playlist_items": "1",
        "continuedl": True,
        "cachedir": False,
        "retries": settings.tries - 1,
        "fragment_retries": settings.tries - 1,
        "extractor_retries": settings.tries - 1,
        "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor"), pause),
        "socket_timeout": settings.timeout_s,
        "sleep_interval": settings.sleep_s,
        "max_sleep_interval": 1.5 * settings.sleep_s,
        # It pauses only before a transfer; a list of removed videos is all requests.
        "sleep_interval_requests": settings.sleep_s / 4,
        "js_runtimes": {name: {} for name in ("deno", "node", "bun", "quickjs")},
        "quiet": True,
        "noprogress": True,
        "logger": said,
    }
    if settings.rate_limit_kb_s:
        chosen["ratelimit"] = settings.rate_limit_kb_s * 1024
    if settings.cookies:
        chosen["cookiefile"] = str(Path(settings.cookies).expanduser())
    if settings.proxy:
        chosen["proxy"] = settings.proxy
    return chosen


class Said:
    """Takes yt-dlp's messages; the last warning often tells why what follows fails (no JavaScript runtime)."""

    def __init__(self) -> None:
        self.last = ""

    def debug(self, message: str) -> None:
        pass

    info = error = debug

    def warning(self, message: str) -> None:
        self.last = message


def meaning(error: BaseException) -> tuple[str, str, bool]:
    """-> (reason, detail, permanent) of a failure of yt-dlp's."""
    status = next((status for status in (getattr(cause, "status", None) for cause in causes(error))
                   if isinstance(status, int)), None)
    text = re.sub(r"\x1b\[[0-9;]*m|; please report this issue on.*", "", str(error)).removeprefix("ERROR:").strip()
    if type(error).__module__.partition(".")[0] != "yt_dlp":
        text = f"{type(error).__name__}: {text}"
    if any(type(cause).__name__ == "GeoRestrictedError" for cause in causes(error)):
        return "blocked", text, True
    said = re.sub(r"^\[[^\]]*\] (\S+: )?", "", text)  # without the id, which may look like a word
    for pattern, reason, permanent in MEANINGS if (status or 0) < 500 else ():
        if re.search(pattern, said, re.IGNORECASE):
            return reason, text, permanent
    if status in (404, 410):
        return "unavailable", f"HTTP {status}: {text}", True
    if status == 451:
        return "blocked", f"HTTP {status}: {text}", True
    return "network", f"HTTP {status}: {text}" if status else text, False


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """-> an error and all that led to it, as yt-dlp and Python tell it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        details = getattr(current, "exc_info", None) or ()
        waiting += [getattr(current, "cause", None), current.__cause__, current.__context__, *details[1:2]]
