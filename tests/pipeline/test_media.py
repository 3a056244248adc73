"""Wrong inputs get a reason; playlists are not followed; ffmpeg is called safely."""

from __future__ import annotations

import contextlib
import http.server
import struct
import threading
from dataclasses import replace

import numpy as np
import pytest

from pipeline import media
from pipeline.decoders import BACKENDS, read_frames, read_timeline
from pipeline.errors import REASONS, PipelineError, VideoError
from pipeline.media import PROBE_COLUMNS, decoder_versions, ffmpeg_command, ffmpeg_input, ffmpeg_path, probe
from pipeline.schemas import ACQUIRED
from tests.synthetic import make_video, read_counter, run_ffmpeg


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "a.mp4", 2.0)
    make_video(folder / "a.mkv", 2.0, audio=("-c:a", "libopus"))
    make_video(folder / "a.avi", 2.0, video=("-c:v", "mpeg4", "-q:v", "3"), audio=("-c:a", "mp3"))
    return folder


def reason_of(path, **options) -> str:
    with pytest.raises(VideoError) as caught:
        probe(path, **options)
    assert str(path) in caught.value.detail
    return caught.value.reason


def test_facts(videos):
    facts = probe(videos / "a.mp4")
    assert (facts.video_codec, facts.audio_codec, facts.container) == ("h264", "aac", "mov")
    assert (facts.width, facts.height, facts.fps, facts.frames) == (160, 120, 25.0, 50)
    assert (facts.audio_rate_hz, facts.audio_channels) == (44100, 1)
    np.testing.assert_allclose([facts.duration_s, facts.audio_duration_s], 2.0, atol=0.03)
    assert facts.video_start_s == 0 and abs(facts.audio_start_s) < 0.03
    assert probe(videos / "a.mkv").frames == 0, "matroska's header has no count"
    assert probe(videos / "a.avi").frames in (50, 51)


def test_facts_are_the_columns_of_the_acquired_snapshot(videos):
    known = {column.name for column in ACQUIRED.columns}
    assert set(PROBE_COLUMNS) <= known
    assert set(probe(videos / "a.mp4").columns()) == set(PROBE_COLUMNS)


@pytest.mark.parametrize("content, reason", [
    (b"", "empty"),
    (b"<!DOCTYPE html><html><body>404</body></html>" * 50, "not_media"),
    (b"just text\n" * 1000, "not_media"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "not_media"),
    (b"PK\x03\x04" + b"\0" * 100, "not_media"),
    (b"\0" * 10_000, "not_media"),
    (np.random.default_rng(0).bytes(10_000), "not_media"),
    (b"\0\0\0\x20ftypisom" + b"\0" * 20, "corrupt"),
])
def test_what_is_no_video(tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert reason_of(path) == reason


def test_what_is_not_there(tmp_path):
    assert reason_of(tmp_path / "none.mp4") == "not_found"
    assert reason_of(tmp_path) == "not_found"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_truncated_before_anything_can_be_read(tmp_path, videos, name):
    whole = (videos / name).read_bytes()
    for length in (1, 7, 40, 200):
        path = tmp_path / name
        path.write_bytes(whole[:length])
        assert reason_of(path) in ("truncated", "corrupt", "not_media")
    if name == "a.mp4":
        path.write_bytes(whole[:len(whole) - 500])
        assert reason_of(path) == "truncated", "its index stands at the end"


def test_streams_that_are_missing(tmp_path, videos):
    run_ffmpeg(["-i", videos / "a.mp4", "-c", "copy", "-an", tmp_path / "silent.mp4"])
    assert reason_of(tmp_path / "silent.mp4") == "no_audio"
    run_ffmpeg(["-i", videos / "a.mp4", "-c", "copy", "-vn", tmp_path / "blind.mp4"])
    assert reason_of(tmp_path / "blind.mp4") == "no_video"
    run_ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64:d=0.04", "-i", videos / "a.mp4", "-map", "0:v", "-map", "1:a",
                "-c:a", "copy", "-c:v", "mjpeg", "-disposition:v:0", "attached_pic", tmp_path / "cover.mp4"])
    assert reason_of(tmp_path / "cover.mp4") == "no_video"


@pytest.mark.parametrize("name", ["cover.mkv", "cover.mp4"])
def test_a_cover_that_is_not_marked_as_one_is_passed_over(tmp_path, videos, name):
    run_ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64:d=0.04", "-i", videos / "a.mp4", "-map", "0:v", "-map", "1",
                "-c", "copy", "-c:v:0", "mjpeg", tmp_path / name])
    facts = probe(tmp_path / name)
    assert (facts.video_codec, facts.width, facts.video_stream) == ("h264", 160, 1)


def test_encrypted(tmp_path, videos):
    run_ffmpeg(["-i", videos / "a.mp4", "-c", "copy", "-encryption_scheme", "cenc-aes-ctr",
                "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb",
                "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8", tmp_path / "locked.mp4"])
    assert reason_of(tmp_path / "locked.mp4") == "encrypted"


def test_absurd_dimensions(tmp_path, videos):
    assert reason_of(videos / "a.mp4", max_pixels=160 * 120 - 1) == "too_large"
    run_ffmpeg(["-i", videos / "a.mp4", "-t", "0.2", "-c:v", "rawvideo", "-pix_fmt", "bgr24", tmp_path / "raw.avi"])
    bomb = bytearray((tmp_path / "raw.avi").read_bytes())
    for mark, offset in ((b"avih", 8 + 32), (b"strf", 8 + 4)):
        place = bomb.index(mark) + offset
        assert struct.unpack_from("<II", bomb, place)[0] == 160
        struct.pack_into("<II", bomb, place, 12_000, 12_000)
    path = tmp_path / "bomb.avi"
    path.write_bytes(bomb)
    assert reason_of(path) == "too_large"


class Recorder(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


PLAYLISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "a.ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "a.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
             "a=control:{target}\n",
    "a.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>',
    "a.mp4": "#EXTM3U\n#EXTINF:10,\n{target}\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_are_not_followed(tmp_path, videos, name):
    """Neither to a local file, nor to the network; by no reader."""
    _, frames, _ = read_timeline(videos / "a.mp4", probe(videos / "a.mp4"), media.MAX_PIXELS)
    server = http.server.HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for target in (str(videos / "a.mp4"), f"http://127.0.0.1:{server.server_port}/a.mp4"):
            path = tmp_path / name
            path.write_text(PLAYLISTS[name].format(target=target))
            assert reason_of(path) == "not_media"
            for backend in BACKENDS:
                with pytest.raises(VideoError, match="corrupt|not_media"):
                    list(read_frames(backend, replace(frames, path=path), np.arange(3)))
            output = tmp_path / "out.raw"
            node = ffmpeg_input(path).output(str(output), format="rawvideo")
            with pytest.raises(RuntimeError, match="whitelist|Invalid"):
                run_ffmpeg(ffmpeg_command(node)[1:])
            assert not output.exists()
    finally:
        server.shutdown()
        server.server_close()
    assert Recorder.asked == []


def test_a_playlist_that_is_a_transport_stream_too_is_not_followed(tmp_path):
    """decord's libavformat takes it for a playlist, PyAV's for a stream: no backend may show the other file."""
    own = make_video(tmp_path / "own.ts", 1.0)
    secret = tmp_path / "secret.ts"
    make_video(tmp_path / "long.mp4", 2.0)
    run_ffmpeg(["-i", tmp_path / "long.mp4", "-ss", "1", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "12",
                "-c:a", "aac", secret])
    head = PLAYLISTS["a.m3u8"].format(target=secret).encode()
    path = tmp_path / "video"
    path.write_bytes(head + b"\n" * (-len(head) % 188) + own.read_bytes())
    _, frames, _ = read_timeline(path, probe(path), media.MAX_PIXELS)
    shown = {}
    for backend in BACKENDS:
        with contextlib.suppress(VideoError):
            shown[backend] = [read_counter(picture) for _, picture in read_frames(backend, frames, np.arange(3))]
    assert shown == {"pyav": [0, 1, 2]}
    assert not media.is_unmistakable(path) and media.is_unmistakable(tmp_path / "long.mp4")


def test_commands_are_vectors_with_plain_names(tmp_path):
    command = ffmpeg_command(ffmpeg_input(tmp_path / "-i $(x).mp4").output("pipe:1", format="s16le"))
    assert command[0] == ffmpeg_path() and "-nostdin" in command
    assert f"file:{tmp_path}/-i $(x).mp4" in command
    assert command[command.index("-protocol_whitelist") + 1] == "file,pipe"
    assert command.index("-protocol_whitelist") < command.index("-i")


def test_versions_name_every_decoder():
    versions = decoder_versions()
    assert set(versions) == {"ffmpeg", "av", "decord", "pillow", "numpy"}
    assert versions["ffmpeg"] and "libavcodec" in versions["av"]


def test_ffmpeg_of_the_system_comes_first(tmp_path, monkeypatch):
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert media.ffmpeg_path.__wrapped__() == str(own)
    own.unlink()
    assert "imageio_ffmpeg" in media.ffmpeg_path.__wrapped__()
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: (_ for _ in ()).throw(RuntimeError("none")))
    with pytest.raises(PipelineError, match="ffmpeg: found neither .* install ffmpeg"):
        media.ffmpeg_path.__wrapped__()


def test_reasons_are_known():
    assert {"encrypted", "truncated", "too_large"} <= set(REASONS)
