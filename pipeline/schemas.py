"""Every artefact of the pipeline, in flow order. Axis names are lengths: equal names, equal lengths.

Features are float32. Times are seconds from the start of the (trimmed) video. Per-clip columns of all videos are
concatenated; video i owns rows offsets[i] to offsets[i + 1].
"""

from __future__ import annotations

from pipeline.h5 import Column, Schema

EMBEDDING_SIZE = 300
SUBSETS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
ROLES = ("train", "val_unseen", "test_unseen", "unused")

MANIFEST = Schema("manifest", 1, (
    Column("class_name", "str", ("class",), "sorted; the index is the class id everywhere downstream"),
    Column("id", "str", ("video",), "sorted, unique"),
    Column("class_index", "int32", ("video",), "row of class_name"),
    Column("source", "str", ("video",), "where to look: a path, or <scheme>:<key>"),
    Column("group", "str", ("video",), "the recording it was cut from (split_groups keeps groups together)"),
    Column("start_s", "float64", ("video",), "cut from its source here; nan: from the beginning"),
    Column("end_s", "float64", ("video",), "cut from its source here; nan: to the end"),
    Column("shard", "int32", ("video",), "bucket by a hash of the id"),
))

ACQUIRED = Schema("acquired", 1, (
    Column("id", "str", ("video",), "as in the manifest, same order"),
    Column("status", "str", ("video",), "ok or failed"),
    Column("reason", "str", ("video",), "empty, or one of pipeline.errors.REASONS"),
    Column("detail", "str", ("video",), "one line on what went wrong, empty if ok"),
    Column("path", "str", ("video",), "absolute path of the file, empty if failed"),
    Column("start_s", "float64", ("video",), "decode from here of the file (nan: beginning)"),
    Column("end_s", "float64", ("video",), "decode to here of the file (nan: end)"),
    Column("bytes", "int64", ("video",), "size of the file"),
    Column("sha256", "str", ("video",), "of the file"),
    Column("shard", "int32", ("video",), "as in the manifest"),
    Column("video_codec", "str", ("video",), "as the container names it"),
    Column("audio_codec", "str", ("video",), "as the container names it"),
    Column("width", "int32", ("video",), "pixels, as stored"),
    Column("height", "int32", ("video",), "pixels, as stored"),
    Column("fps", "float64", ("video",), "average frame rate"),
    Column("frames", "int64", ("video",), "frame count of the header, 0 if it has none"),
    Column("duration_s", "float64", ("video",), "of the video stream"),
    Column("audio_rate_hz", "int32", ("video",), "samples a second"),
    Column("audio_channels", "int32", ("video",), "1 mono, 2 stereo, 6 5.1"),
    Column("audio_duration_s", "float64", ("video",), "of the audio stream"),
    Column("video_start_s", "float64", ("video",), "first timestamp"),
    Column("audio_start_s", "float64", ("video",), "first timestamp"),
    Column("shard_content", "str", ("shard",), "sha256 over what decoding shard k depends on"),
))

WEIGHTS = Schema("weights", 1, (
    Column("slot", "str", ("slot",), "what the weights are for"),
    Column("name", "str", ("slot",), "registered name or path of the file; generated: name of the recipe"),
    Column("sha256", "str", ("slot",), "of the file, or of the generated tensors"),
    Column("source", "str", ("slot",), "published, path or generated"),
    Column("licence", "str", ("slot",), "of the weights"),
))

DECODED = Schema("decoded", 1, (
    Column("id", "str", ("video",), "the shard's videos, failed ones included"),
    Column("status", "str", ("video",), "ok or failed"),
    Column("reason", "str", ("video",), "empty, or one of pipeline.errors.REASONS"),
    Column("detail", "str", ("video",), "one line on what went wrong, empty if ok"),
    Column("backend", "str", ("video",), "reader of the frames: decord, pyav or ffmpeg"),
    Column("video/offsets", "int64", ("video+1",), "rows of the frame clips"),
    Column("video/start_s", "float64", ("video_clip",), "start of the window"),
    Column("video/stop_s", "float64", ("video_clip",), "end of the window"),
    Column("video/frames", "uint8", ("video_clip", "frame", 112, 112, 3), "RGB, resized and cropped"),
    Column("video/frames_valid", "int32", ("video_clip",), "leading frames that are real; the rest is padding"),
    Column("audio/offsets", "int64", ("video+1",), "rows of the audio clips"),
    Column("audio/start_s", "float64", ("audio_clip",), "start of the window"),
    Column("audio/stop_s", "float64", ("audio_clip",), "end of the window"),
    Column("audio/samples", "float32", ("audio_clip", "sample"), "mono, at the rate and scale of the extractor"),
))

CLIP_FEATURES = Schema("clip_features", 1, (
    Column("id", "str", ("video",), "the shard's videos, failed ones included"),
    Column("status", "str", ("video",), "ok or failed"),
    Column("reason", "str", ("video",), "empty, or one of pipeline.errors.REASONS"),
    Column("detail", "str", ("video",), "one line on what went wrong, empty if ok"),
    Column("video/offsets", "int64", ("video+1",), "rows of the video clips"),
    Column("video/start_s", "float64", ("video_clip",), "start of the window"),
    Column("video/stop_s", "float64", ("video_clip",), "end of the window"),
    Column("video/features", "float32", ("video_clip", "Dv"), "one row a clip"),
    Column("audio/offsets", "int64", ("video+1",), "rows of the audio clips"),
    Column("audio/start_s", "float64", ("audio_clip",), "start of the window"),
    Column("audio/stop_s", "float64", ("audio_clip",), "end of the window"),
    Column("audio/features", "float32", ("audio_clip", "Da"), "one row a clip"),
))

VIDEO_FEATURES = Schema("video_features", 1, (
    Column("id", "str", ("video",), "videos with both features, sorted"),
    Column("video", "float32", ("video", "Dv"), "mean over the video's clips"),
    Column("audio", "float32", ("video", "Da"), "mean over the video's clips"),
    Column("video_clips", "int32", ("video",), "clips in the mean"),
    Column("audio_clips", "int32", ("video",), "clips in the mean"),
    Column("failed_id", "str", ("failed",), "videos without features, sorted"),
    Column("failed_reason", "str", ("failed",), "one of pipeline.errors.REASONS"),
    Column("failed_detail", "str", ("failed",), "one line on what went wrong"),
))

LABELS = Schema("labels", 1, (
    Column("class_name", "str", ("class",), "as in the manifest, same order"),
    Column("text", "str", ("class",), "the text label that was embedded"),
    Column("vector", "float32", ("class", EMBEDDING_SIZE), "L2-normalised embedding of the text"),
    Column("published_vector", "float32", ("class", EMBEDDING_SIZE),
           "what the released loader gives this class: row i of the text-sorted table to class i"),
    Column("found", "str", ("class",), "words with a vector, separated by spaces"),
    Column("missing", "str", ("class",), "words without one, separated by spaces"),
))

SPLIT = Schema("split", 2, (
    Column("class_name", "str", ("class",), "as in the manifest, same order"),
    Column("role", "str", ("class",), "one of ROLES"),
    Column("overlap", "bool", ("class",), "known from pre-training, hence never unseen"),
    Column("decision/class_name", "str", ("decision",), "one row for each class and pre-training set"),
    Column("decision/pretraining", "str", ("decision",), "the set that the decision is about"),
    Column("decision/overlap", "str", ("decision",), "yes, no, or empty where nobody has looked"),
    Column("decision/label", "str", ("decision",), "the pre-training label that is nearest or decides, if any"),
    Column("decision/decided_by", "str", ("decision",), "rule:<name>, published, or who signed the decision file"),
    Column("decision/rule", "str", ("decision",), "what the rules alone say, as overlap"),
    Column("decision/score", "float32", ("decision",), "of the nearest label by the rules, 0 to 1, NaN without a list"),
    Column("id", "str", ("video",), "as in the manifest, same order"),
    Column("subset", "str", ("video",), "one of SUBSETS, or empty if excluded"),
    Column("excluded", "str", ("video",), "why it is in no subset, else empty"),
))

BENCHMARK = Schema("benchmark", 1, (
    Column("class_name", "str", ("class",), "sorted; the index is the class id"),
    Column("class_text", "str", ("class",), "the text label"),
    Column("class_role", "str", ("class",), "one of ROLES"),
    Column("class_vector", "float32", ("class", EMBEDDING_SIZE), "label embedding that training uses"),
    Column("id", "str", ("video",), "sorted; only videos with a subset and features"),
    Column("class_index", "int32", ("video",), "row of class_name"),
    Column("subset", "str", ("video",), "one of SUBSETS"),
    Column("video", "float32", ("video", "Dv"), "visual features"),
    Column("audio", "float32", ("video", "Da"), "audio features"),
    Column("failed_id", "str", ("failed",), "videos of the split without features"),
    Column("failed_class_index", "int32", ("failed",), "row of class_name"),
    Column("failed_subset", "str", ("failed",), "one of SUBSETS"),
    Column("failed_reason", "str", ("failed",), "one of pipeline.errors.REASONS"),
    Column("failed_detail", "str", ("failed",), "one line on what went wrong"),
))

# Trained parameters and buffers, ragged: tensor i is weight_value[weight_offset[i]:weight_offset[i + 1]].
_WEIGHTS = (
    Column("weight_name", "str", ("tensor",), "state-dict key"),
    Column("weight_shape", "str", ("tensor",), "JSON list of ints"),
    Column("weight_offset", "int64", ("tensor+1",), "rows of weight_value"),
    Column("weight_value", "float32", ("value",), "row-major values, integer buffers included"),
)

_HISTORY = (
    Column("loss", "float64", ("epoch",), "mean training loss of the epoch"),
    Column("term_name", "str", ("term",), "names of the loss terms"),
    Column("term", "float64", ("epoch", "term"), "mean of each loss term over the epoch"),
    Column("learning_rate", "float64", ("epoch",), "rate the epoch was trained with"),
    Column("seen", "float64", ("epoch",), "validation S in per cent"),
    Column("unseen", "float64", ("epoch",), "validation U in per cent"),
    Column("harmonic_mean", "float64", ("epoch",), "validation HM in per cent"),
    Column("zero_shot", "float64", ("epoch",), "validation ZSL in per cent"),
    Column("calibration", "float64", ("epoch",), "best beta of the epoch"),
)

# attributes: chosen_epoch (0-based), calibrations (output -> beta that the test uses), calibration (of the standard
# output), parameters (count), method, seed, spec
STAGE1 = Schema("stage1", 1, (*_HISTORY, *_WEIGHTS))
# attributes: chosen_epoch, epochs (trained), parameters, method, seed, spec
STAGE2 = Schema("stage2", 1, (*_HISTORY, *_WEIGHTS))

# attributes: chosen_epoch, parameters, empty_classes (names of classes without test videos), method, seed, spec,
# video_list_sha256 (of the benchmark)
SCORES = Schema("scores", 3, (
    Column("output", "str", ("output",), "what predicts: theta_v (AVCA's standard), theta_a, mean, smaller, or the method's own; first row is standard"),
    Column("seen", "float64", ("output",), "S in per cent: mean recall over seen test classes"),
    Column("unseen", "float64", ("output",), "U in per cent"),
    Column("harmonic_mean", "float64", ("output",), "HM in per cent"),
    Column("zero_shot", "float64", ("output",), "ZSL in per cent"),
    Column("calibration", "float64", ("output",), "beta, from validation"),
    Column("beta", "float64", ("beta",), "the calibration grid"),
    Column("curve_seen", "float64", ("beta",), "test S at each beta, standard output"),
    Column("curve_unseen", "float64", ("beta",), "test U at each beta, standard output"),
    Column("class_index", "int32", ("class",), "test classes, ascending; row of the benchmark's class_name"),
    Column("class_name", "str", ("class",), "its name"),
    Column("class_unseen", "bool", ("class",), "role test_unseen"),
    Column("class_videos", "int32", ("class",), "test videos of the class"),
    Column("class_recall", "float64", ("class",), "GZSL recall in per cent, nan without videos; standard output"),
    Column("class_zero_shot", "float64", ("class",), "ZSL recall in per cent, nan for seen classes"),
    Column("confusion", "int32", ("class", "class"), "row true, column predicted, GZSL at beta"),
    Column("id", "str", ("video",), "test videos, benchmark order"),
    Column("target", "int32", ("video",), "true class id"),
    Column("predicted", "int32", ("video",), "GZSL prediction at beta, standard output"),
    Column("predicted_zero_shot", "int32", ("video",), "prediction among unseen classes"),
    Column("embedding", "float32", ("video", "k"), "what predicts, in the space of label_embedding"),
    Column("label_embedding", "float32", ("class", "k"), "embedded class vectors"),
))

REPORT = Schema("report", 1, (
    Column("scores_columns", "str", ("scores_column",), "header of scores.csv"),
    Column("scores", "str", ("score", "scores_column"), "cells of scores.csv"),
    Column("outputs_columns", "str", ("outputs_column",), "header of outputs.csv"),
    Column("outputs", "str", ("output_row", "outputs_column"), "cells: every output of a method (the paper's table 5)"),
    Column("summary_columns", "str", ("summary_column",), "header of summary.csv"),
    Column("summary", "str", ("group", "summary_column"), "cells: mean, deviation over seeds and interval over test videos"),
    Column("split_columns", "str", ("split_column",), "header of split.csv"),
    Column("split", "str", ("split_row", "split_column"), "cells: the paper's table 1"),
    Column("failures_columns", "str", ("failures_column",), "header of failures.csv"),
    Column("failures", "str", ("failure", "failures_column"), "cells: what failed and why"),
    Column("classes_columns", "str", ("classes_column",), "header of classes.csv"),
    Column("classes", "str", ("class_row", "classes_column"), "cells: recall per class"),
))

AUDIT = Schema("audit", 1, (
    Column("finding_columns", "str", ("finding_column",), "header of the findings"),
    Column("finding", "str", ("finding", "finding_column"), "cells: section, what, found, published, remark"),
    Column("class_columns", "str", ("class_column",), "header of the classes"),
    Column("class", "str", ("class", "class_column"), "cells: role, text, overlap decision, videos and acquired by subset"),
))
