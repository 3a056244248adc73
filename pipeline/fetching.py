"""Single videos from the network, by yt-dlp as a library, and what its failures mean."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError

RETRIES = ("transient", "all", "none")
# H.264 with AAC where there is: every reader can decode it. Small pictures suffice, the extractors see 112 x 112.
FORMAT = "bv*[vcodec^=avc1][height<=480]+ba[acodec^=mp4a]/b[vcodec^=avc1][height<=480]/b[vcodec^=avc1]/bv*+ba/b"

# What the messages of yt-dlp's extractors mean; the first that fits counts. (pattern, reason, permanent)
MEANINGS: tuple[tuple[str, str, bool], ...] = (
    (r"not a bot|confirm you.re not|try again later|rate.?limit|too many requests|captcha", "network", False),
    (r"not (made )?available in your country|geo.?restrict|blocked it in your|your location", "blocked", True),
    (r"confirm your age|age.?restricted|inappropriate for some users", "blocked", True),
    (r"members.only|join this channel|requires payment|premium|purchase|copyright grounds", "blocked", True),
    (r"private video|video is private|login required|sign in if you.ve been granted", "unavailable", True),
    (r"unavailable|been removed|no longer available|terminated|does(n.t| not) exist|deleted|been closed",
     "unavailable", True),
    (r"unsupported url|no video formats|no media found|no video could be found", "not_media", False),
)
THROTTLED = re.compile(r"not a bot|confirm you.re not|try again later|rate.?limit|too many requests|\b429\b", re.I)


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
    archive: str = ""


@dataclass(frozen=True)
class Outcome:
    """``path`` if it worked, else ``reason`` (one of errors.REASONS), ``detail`` and whether it will stay so."""

    path: Path | None = None
    reason: str = ""
    detail: str = ""
    permanent: bool = False

    @property
    def throttled(self) -> bool:
        return THROTTLED.search(self.detail) is not None


def fetch(key: str, folder: Path, partial: Path, settings: FetchSettings) -> Outcome:
    """Fetch the video ``key`` to ``folder/<key>.<suffix>``; what is half done waits in ``partial/<key>``.

    Never raises for what the network or the source does.
    """
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

    if not re.fullmatch(r"[\w-]+", key, re.ASCII):
        raise SettingsError(f"source key {key!r}: expected letters, digits, - and _ only")
    scratch = partial / key
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with YoutubeDL(options(scratch, settings)) as downloader:
            facts = downloader.extract_info(settings.url.replace("{id}", key), download=True)
            if facts is None:
                return Outcome(None, "network", "yt-dlp: its archive lists the video as done, but its file is not here")
            made = [Path(entry["filepath"]) for entry in facts.get("requested_downloads") or ()]
    except YoutubeDLError as error:
        return Outcome(None, *meaning(error))
    except (OSError, ValueError) as error:
        return Outcome(None, "network", f"{type(error).__name__}: {error}", False)
    if len(made) != 1 or not made[0].is_file():
        return Outcome(None, "not_media", f"yt-dlp made {len(made)} files, expected one video", False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}{made[0].suffix}"
    os.replace(made[0], path)
    shutil.rmtree(scratch, ignore_errors=True)
    return Outcome(path)


def options(scratch: Path, settings: FetchSettings) -> dict[str, Any]:
    """-> yt-dlp's options. It reads no configuration of the user's own."""
    from pipeline.media import ffmpeg_path

    def pause(n: int) -> float:
        return min(settings.sleep_s * 2.0**n, 60.0)

    chosen: dict[str, Any] = {
        "outtmpl": {"default": f"{str(scratch).replace('%', '%%')}/video.%(ext)s"},
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
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": Silent(),
    }
    if settings.rate_limit_kb_s:
        chosen["ratelimit"] = settings.rate_limit_kb_s * 1024
    if settings.cookies:
        chosen["cookiefile"] = settings.cookies
    if settings.proxy:
        chosen["proxy"] = settings.proxy
    if settings.archive:
        chosen["download_archive"] = settings.archive
    return chosen


class Silent:
    """Takes yt-dlp's messages: the ledger keeps what matters of them."""

    def debug(self, message: str) -> None:
        pass

    info = warning = error = debug


def meaning(error: BaseException) -> tuple[str, str, bool]:
    """-> (reason, detail, permanent) of a failure of yt-dlp's."""
    status = http_status(error)
    text = re.sub(r"\x1b\[[0-9;]*m|; please report this issue on.*", "", str(error)).removeprefix("ERROR:").strip()
    for pattern, reason, permanent in MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return reason, text, permanent
    if status in (404, 410):
        return "unavailable", f"HTTP {status}: {text}", True
    if status == 451:
        return "blocked", f"HTTP {status}: {text}", True
    return "network", f"HTTP {status}: {text}" if status else text, False


def http_status(error: BaseException | None) -> int | None:
    """-> the HTTP status somewhere among an error's causes."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        status = getattr(current, "status", None)
        if isinstance(status, int):
            return status
        details = getattr(current, "exc_info", None) or ()
        waiting += [getattr(current, "cause", None), current.__cause__, current.__context__, *details[1:2]]
    return None
