from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline import h5, published_results, report_page, report_tables, results, schemas
from pipeline.errors import ArtefactError, PipelineError, SettingsError
from pipeline.report import ReportSettings, build_report
from pipeline.report_page import GENERATED_NOTE
from tests.pipeline import report_artefacts as made

SETTINGS = ReportSettings(bootstrap_samples=60, tsne_videos=60)
REQUIRED_COLUMNS = "dataset,feature_set,method,protocol,seed,S,U,HM,ZSL,beta,chance_HM,chance_ZSL"
COMPARABLE = {"weights": made.PUBLISHED, "split": "published",
              "video_list_sha256": published_results.VIDEO_LISTS["ucf", "selavi"]}


def build(entries, folder: Path, settings: ReportSettings = SETTINGS) -> Path:
    output = h5.Output(folder / "report-0.h5", schemas.REPORT)
    build_report(entries, settings, output)
    return output.path.with_suffix("")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Folder of a report over two feature sets and three seeds."""
    folder = tmp_path_factory.mktemp("report")
    entries = made.entries(folder / "a") + made.entries(folder / "b", feature_set="c3d_vggish")
    return build(entries, folder)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_csv_begins_with_the_promised_columns_in_per_cent(page):
    first = (page / "scores.csv").read_text().splitlines()[0]
    assert first.startswith(REQUIRED_COLUMNS + ",weights,split,video_list_sha256,coverage,digest")
    rows = rows_of(page / "scores.csv")
    assert [(row["feature_set"], row["seed"]) for row in rows] == [
        (name, seed) for name in ("selavi", "c3d_vggish") for seed in "012"
    ]
    one = rows[0]
    assert (one["chance_HM"], one["chance_ZSL"], one["beta"], one["weights"]) == ("10.00", "33.33", "1.20", "generated")
    s, u = float(one["S"]), float(one["U"])
    assert float(one["HM"]) == pytest.approx(2 * s * u / (s + u), abs=0.02)
    assert one["coverage"] == "98.50" and one["digest"] == "digest of scores-0"
    assert re.fullmatch(r"\d+\.\d\d", one["ZSL"])


def test_the_artefact_holds_the_same_tables(page):
    with h5.read(page.with_suffix(".h5"), schemas.REPORT) as file:
        for name in ("scores", "summary", "outputs", "split", "failures", "classes"):
            header, *rows = list(csv.reader((page / f"{name}.csv").open(newline="")))
            assert file[f"{name}_columns"].tolist() == header
            assert file[name].tolist() == rows


def test_equal_inputs_give_equal_files(page, tmp_path):
    entries = made.entries(tmp_path / "a") + made.entries(tmp_path / "b", feature_set="c3d_vggish")
    again = build(entries, tmp_path)
    names = sorted(path.name for path in page.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (again / name).read_bytes() == (page / name).read_bytes(), name


def test_split_csv_is_table_1_for_the_split_and_for_what_has_features(page):
    split, features, *_ = rows_of(page / "split.csv")
    assert split["counted"] == "split" and features["counted"] == "with features"
    counts = ("classes", "classes_train", "classes_val_unseen", "classes_test_unseen", "videos", *schemas.SUBSETS)
    assert [split[name] for name in counts] == ["10", "5", "2", "3", "200", "70", "10", "32", "28", "60"]
    assert [features[name] for name in counts] == ["10", "5", "2", "3", "197", "69", "10", "32", "27", "59"]


def test_failures_csv_names_every_lost_video_with_class_subset_and_reason(page):
    rows = rows_of(page / "failures.csv")
    assert len(rows) == 6
    assert list(rows[0].values()) == [
        "demo", "selavi", "video010", "red ball bouncing", "train", "corrupt", "invalid data in packet 3",
    ]


def test_classes_csv_has_each_class_of_each_evaluation(page):
    rows = rows_of(page / "classes.csv")
    assert len(rows) == 6 * 10
    assert {row["zero_shot_recall"] == "" for row in rows if row["seen"] == "yes"} == {True}
    assert all(row["zero_shot_recall"] for row in rows if row["seen"] == "no")


def test_summary_is_mean_and_deviation_over_seeds(page):
    rows = rows_of(page / "scores.csv")[:3]
    one = rows_of(page / "summary.csv")[0]
    values = np.array([float(row["HM"]) for row in rows])
    assert float(one["HM_mean"]) == pytest.approx(values.mean(), abs=0.01)
    assert float(one["HM_sd"]) == pytest.approx(values.std(ddof=1), abs=0.02)
    assert float(one["HM_low"]) < values.mean() < float(one["HM_high"])
    assert one["published_HM"] == "" and one["seeds"] == "3"


def test_markdown_and_latex_say_what_the_numbers_stand_on(page):
    markdown, latex = (page / "tables.md").read_text(), (page / "tables.tex").read_text()
    assert "## Results" in markdown and "±" in markdown and GENERATED_NOTE in markdown
    assert r"\toprule" in latex and r"c3d\_vggish" in latex and GENERATED_NOTE in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3


class Seen(HTMLParser):
    """Ids, tags and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.addresses = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value)


def test_the_page_needs_nothing_else_and_runs_nothing(page):
    text = (page / "index.html").read_text()
    seen = Seen(text)
    assert not seen.tags & {"script", "link", "img", "iframe", "object"}
    inside = [address for address in seen.addresses if not address.startswith("data:image/png;base64,")]
    assert all(address.startswith("#") for address in inside)
    assert "url(http" not in text and "@import" not in text
    assert len(seen.ids) == len(set(seen.ids))
    assert {address[1:] for address in inside} <= set(seen.ids)


def test_the_page_says_generated_wherever_a_number_stands_on_it(page):
    text = (page / "index.html").read_text()
    assert text.count(GENERATED_NOTE) >= 5  # banner, notes, overview and each section
    assert text.count("generated weights</span>") == 2  # both rows of the headline table
    assert text.count("chance 10.00") == 6 and text.count("chance 33.33") == 2
    assert "inside</span>" not in text and "outside</span>" not in text


def test_the_sections_of_many_methods_are_folded(page, tmp_path, monkeypatch):
    (one,) = made.entries(tmp_path, seeds=(0,))
    entries = [replace(one, facts={**one.facts, "method": f"method {k}"}) for k in range(5)]
    settings = replace(SETTINGS, bootstrap_samples=0, tsne_videos=10)
    section, once = report_page.section, []

    def same_pictures(group, key, *arguments):
        if not once:
            once.append(section(group, key, *arguments))
        return {**once[0], "key": key}

    monkeypatch.setattr(report_page, "section", same_pictures)
    text = (build(entries, tmp_path, settings) / "index.html").read_text()
    assert text.count('<details class="more">') == 5 and text.count("<details") == text.count("</details>")
    assert 'class="more"' not in (page / "index.html").read_text()


def test_nothing_from_outside_becomes_markup(tmp_path):
    (entry,) = made.entries(tmp_path, seeds=(0,), label_order="published", shifted_classes=["<b>x</b>"],
                            classes_without_videos=["<script>alert(1)</script>"])
    folder = build([entry], tmp_path)
    text = (folder / "index.html").read_text()
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "released order, which gives 1 classes" in text


@pytest.mark.parametrize("change", [
    {"weights": made.GENERATED}, {"split": "curated"}, {"video_list_sha256": "00" * 32},
    {"weights": {"selavi": {"source": "path"}}}, {"weights": None}, {"origin": "published, but epochs 3"},
    {"weights": {"selavi": {**made.PUBLISHED["selavi"], "name": "selavi_kinetics"}}},
    {"protocol": "corrected"}, {"deviations": "label_order=corrected"},
])
def test_published_values_stand_beside_ours_only_where_nothing_differs(tmp_path, change):
    def shown(**attributes):
        (entry,) = made.entries(tmp_path, seeds=(0,), dataset="ucf", **{"protocol": "reference", **attributes})
        group, = results.grouped([results.read(entry)], 50, 0)
        return report_tables.published_of(group)

    found = shown(**COMPARABLE)
    assert found["HM"][0] == 27.15 and found["ZSL"][0] == 20.01
    assert found["ZSL"][1] == "outside"
    assert shown(**{**COMPARABLE, **change}) == {}


def test_imported_features_have_no_split_artefact(tmp_path):
    (entry,) = made.entries(tmp_path, seeds=(0,))
    found = results.read(replace(entry, split=None))
    assert [row[2] for row in report_tables.split_table([found]).rows] == ["with features"]
    (group,) = results.grouped([found], 0, 0)
    assert "split" not in {row["name"] for row in report_page.provenance(group)["artefacts"]}


def test_the_page_says_why_published_values_are_missing(tmp_path):
    comparable = {**COMPARABLE, "protocol": "reference"}
    entries = made.entries(tmp_path, seeds=(0,), dataset="ucf", **{**comparable, "weights": None})
    found = [results.read(entry) for entry in entries]
    assert "SeLaVi: no published values beside these, because: computed with unknown weights." in (
        report_page.notes(found, results.grouped(found, 0, 0))
    )


def test_the_leakage_of_the_split_is_told():
    shared = {"val_seen": [353, 353], "val_unseen": [0, 1467], "test_seen": [555, 555], "test_unseen": [0, 1267]}
    assert report_page.leakage(shared).endswith("ts(S) 555 of 555, ts(U) 0 of 1267; scores on them are optimistic.")
    assert report_page.leakage({"test_seen": [0, 9]}).endswith("training data: ts(S) 0 of 9.")
    assert "is not known" in report_page.leakage(None)


def test_a_published_value_is_inside_where_our_interval_holds_it(tmp_path, monkeypatch):
    entries = made.entries(tmp_path, dataset="ucf", protocol="reference", **COMPARABLE)
    mean = results.grouped([results.read(entry) for entry in entries], 0, 0)[0].mean("HM")
    monkeypatch.setitem(published_results.SELAVI, "avca", (0, 0, round(mean, 2), 5.0, 0, 0))
    folder = build(entries, tmp_path)
    (row,) = rows_of(folder / "summary.csv")
    assert (row["published_HM_inside"], row["published_ZSL_inside"]) == ("yes", "no")
    text = (folder / "index.html").read_text()
    assert "inside</span>" in text and "outside</span>" in text and published_results.SOURCE in text
    assert GENERATED_NOTE not in text


def test_no_published_value_for_a_dataset_of_ones_own():
    assert published_results.value("demo", "selavi", "avca") is None
    assert published_results.value("ucf", "c3d_vggish", "fvaegan") is None
    assert "no published results for demo" in published_results.obstacle("demo", "selavi", "reference", "published", {})


def test_the_published_weights_are_the_registered_defaults():
    from extractors.registry import EXTRACTORS

    defaults = {slot.name: slot.files[0].name for entry in EXTRACTORS.values() for slot in entry.weights}
    assert defaults == published_results.WEIGHTS


def test_the_page_says_whose_hyper_parameters_are_not_the_published_ones(tmp_path, page):
    whose = "published for selavi"
    entries = made.entries(tmp_path, seeds=(0,), method="fvaegan", feature_set="c3d_vggish", origin=whose)
    found = [results.read(entry) for entry in entries]
    notes = report_page.notes(found, results.grouped(found, 0, 0))
    assert "Hyper-parameters of f-VAEGAN-D2 on C3D / VGGish: published for selavi." in notes
    assert "Hyper-parameters of" not in (page / "index.html").read_text()


def test_outputs_are_shown_as_means_and_deviations_over_seeds(page):
    values = [float(row["HM"]) for row in rows_of(page / "outputs.csv")
              if (row["feature_set"], row["output"]) == ("selavi", "theta_a")]
    assert len(values) == 3
    shown = (page / "index.html").read_text()
    cells = r"theta_a</td>(?:<td[^>]*>[^<]*</td>){2}<td[^>]*>([^<]*) ± ([^<]*)<"  # S, U, HM
    mean, deviation = re.search(cells, shown).groups()
    assert float(mean) == pytest.approx(np.mean(values), abs=0.01)
    assert float(deviation) == pytest.approx(np.std(values, ddof=1), abs=0.02)
    assert "2.10 GFLOP" in shown


def test_without_intervals_nothing_is_inside_or_outside(tmp_path):
    entries = made.entries(tmp_path, seeds=(0,), dataset="ucf", **{**COMPARABLE, "protocol": "reference"})
    groups = results.grouped([results.read(entry) for entry in entries], 0, 0)
    assert report_tables.published_of(groups[0]) == {"HM": (27.15, ""), "ZSL": (20.01, "")}
    assert "27.15" in report_tables.readable(groups).rows[0]
    (row,) = report_tables.summary_table(groups).rows
    assert row[-5:-1] == ("27.15", "20.01", "", "")


def test_the_interval_contains_what_resampling_by_hand_gives(tmp_path):
    (entry,) = made.entries(tmp_path, seeds=(0,))
    result = results.read(entry)
    found, (alone,) = results.bootstrap([result], 400, 1)
    assert alone == found
    random = np.random.default_rng(2)
    scores, values = result.scores, []
    for _ in range(400):
        drawn = random.integers(len(scores["id"]), size=len(scores["id"]))
        target, hit = scores["target"][drawn], scores["predicted"][drawn] == scores["target"][drawn]
        values.append(100 * np.mean([hit[target == k].mean() for k in np.flatnonzero(scores["class_unseen"])]))
    np.testing.assert_allclose(found["U"], np.quantile(values, (0.025, 0.975)), atol=2.0)


def test_seeds_that_saw_other_test_videos_are_refused(tmp_path):
    one = results.read(made.entries(tmp_path, seeds=(0,))[0])
    other = replace(one, scores={**one.scores, "id": one.scores["id"][::-1]})
    with pytest.raises(ArtefactError, match=r"scores-0.h5: found other test videos than in .*scores-0.h5"):
        results.bootstrap([one, other], 10, 0)


def test_scores_of_another_benchmark_are_refused(tmp_path):
    (entry,) = made.entries(tmp_path, seeds=(0,))
    with h5.read(entry.scores, schemas.SCORES) as file:
        columns = {column.name: file[column.name] for column in schemas.SCORES.columns}
    made.write(entry.scores, schemas.SCORES, {**columns, "class_index": columns["class_index"] + 1}, {})
    with pytest.raises(ArtefactError, match=r"scores-0.h5: found class 10, expected rows of the 10 classes of"):
        build([entry], tmp_path)


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="Report: found no evaluation, expected one or more"):
        build([], tmp_path)


@pytest.mark.parametrize(("field", "value"), [("tsne_videos", 5), ("bootstrap_samples", -1), ("listed_failures", -1)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(SettingsError, match=rf"\[report\] {field}: found {value}, expected \d+ or more"):
        ReportSettings(**{field: value})


def test_more_classes_than_colours_are_refused():
    with pytest.raises(SettingsError, match=r"tsne_unseen_classes: found 9, expected up to 8"):
        ReportSettings(tsne_seen_classes=5)


def test_without_failures_or_intervals_the_page_says_so(tmp_path, monkeypatch):
    (entry,) = made.entries(tmp_path, seeds=(4,))
    with h5.read(entry.benchmark, schemas.BENCHMARK) as file:
        columns = {column.name: file[column.name] for column in schemas.BENCHMARK.columns}
        facts = file.attributes
    columns.update({name: values[:0] for name, values in columns.items() if name.startswith("failed")})
    made.write(entry.benchmark, schemas.BENCHMARK, columns, {"weights": facts["weights"]})
    folder = build([entry], tmp_path, replace(SETTINGS, bootstrap_samples=0))
    assert "None: every video of the split has features." in (folder / "index.html").read_text()
    (row,) = rows_of(folder / "summary.csv")
    assert (row["HM_sd"], row["HM_low"]) == ("", "")
    assert (folder / "failures.csv").read_text().count("\n") == 1


CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--hide-scrollbars", "--window-size=1180,5200",
)


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser. Skipped by name without one, unless GZSL_REQUIRE_CHROMIUM is set: then it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        assert not os.environ.get("GZSL_REQUIRE_CHROMIUM"), "GZSL_REQUIRE_CHROMIUM is set, but no chromium is on PATH"
        pytest.skip("no chromium on PATH")
    return found


def browse(chromium: str, page: Path, profile: Path, *flags: str) -> str:
    command = [chromium, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", *flags, (page / "index.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
def test_a_browser_shows_the_page(page, chromium, tmp_path):
    from PIL import Image

    shot = tmp_path / "page.png"
    browse(chromium, page, tmp_path / "profile", f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (5200, 1180, 3)

    def has(colour, top=0, bottom=None):
        return int((np.abs(pixels[top:bottom] - colour).max(axis=2) < 8).sum())

    assert has((0x1F, 0x3A, 0x4D), bottom=160) > 50_000  # the title's ground
    assert has((0xFF, 0xF5, 0xE6), bottom=400) > 5_000  # the note on generated weights
    assert has((0x2F, 0x7D, 0x5B), bottom=1200) > 5_000  # bars of HM
    assert has((0x7A, 0x51, 0x95), bottom=1200) > 5_000  # bars of ZSL
    assert has((0x33, 0x65, 0x8A), top=1000) > 3_000 and has((0xC8, 0x69, 0x1C), top=1000) > 1_000  # curves
    busy = (pixels.reshape(26, 200, 1180, 3).std(axis=(1, 2)) > 4).all(axis=1)
    assert busy.all(), f"blank bands at {200 * np.flatnonzero(~busy)}"


@pytest.mark.slow
def test_a_browser_reads_every_section(page, chromium, tmp_path):
    text = browse(chromium, page, tmp_path / "profile", "--dump-dom")
    scores = rows_of(page / "summary.csv")
    for heading in ("Results", "Calibration", "Training", "Input and learnt embeddings", "Classes", "Split", "Failures",
                    "Provenance"):
        assert re.search(rf"<h[23][^>]*>{heading}</h", text), heading
    for row in scores:
        for name in ("S", "U", "HM", "ZSL"):
            assert f'<span class="mean">{row[f"{name}_mean"]}</span>' in text
    for name in ("stacking", "training", "embeddings", "recalls"):
        assert text.count(f'<figure class="{name}"><svg') == 2
    assert text.count("</svg>") == 11
    assert "too_short" in text and "CC-BY" not in text and GENERATED_NOTE in text
