"""The report: every table as HDF5 and CSV, Markdown and LaTeX of the main ones, and one page that explains them.

What lies beside the artefact, in a folder of its name: index.html (needs nothing else, no network and no script),
scores.csv, summary.csv, outputs.csv, split.csv, failures.csv, classes.csv, tables.md and tables.tex. Equal inputs give
equal files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import h5, report_page, report_tables
from pipeline.errors import PipelineError, SettingsError
from pipeline.progress import Progress
from pipeline.report_tables import Table
from pipeline.results import Group, ReportEntry, Result, grouped, read
from pipeline.tables import write_table

__all__ = ["ReportEntry", "ReportSettings", "build_report"]


@dataclass(frozen=True)
class ReportSettings:
    """[report]. ``bootstrap_samples``: draws of the test videos for the intervals of means over seeds; 0: no intervals.

    ``tsne_videos``: most videos in one t-SNE picture; ``tsne_seen_classes``, ``tsne_unseen_classes``: how many classes
    it shows where the paper names none. ``listed_failures``: most failed videos listed on the page (all stand in
    failures.csv). ``seed``: of the bootstrap and of t-SNE.
    """

    bootstrap_samples: int = 1000
    tsne_videos: int = 600
    tsne_seen_classes: int = 4
    tsne_unseen_classes: int = 4
    listed_failures: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"bootstrap_samples": 0, "tsne_videos": 10, "tsne_seen_classes": 1, "tsne_unseen_classes": 1,
                 "listed_failures": 0, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise SettingsError(f"[report] {name}: found {getattr(self, name)}, expected {value} or more")
        shown = self.tsne_seen_classes + self.tsne_unseen_classes
        if shown > 8:
            raise SettingsError(
                f"[report] tsne_seen_classes + tsne_unseen_classes: found {shown}, expected up to 8, the number of "
                "colours that can be told apart"
            )


def build_report(entries: Sequence[ReportEntry], settings: ReportSettings, output: h5.Output) -> None:
    """Write the page and the tables beside ``output.path``, then schemas.REPORT.

    Raises PipelineError if there is nothing to report, ArtefactError for artefacts that can't be read or do not belong
    together.
    """
    if not entries:
        raise PipelineError("Report: found no evaluation, expected one or more; name methods and seeds")
    results = [read(entry) for entry in entries]
    groups = grouped(results, settings.bootstrap_samples, settings.seed)
    tables = {
        "scores": report_tables.scores_table(groups),
        "summary": report_tables.summary_table(groups),
        "outputs": report_tables.outputs_table(results),
        "split": report_tables.split_table(results),
        "failures": report_tables.failures_table(results),
        "classes": report_tables.classes_table(results),
    }
    folder = Path(output.path).with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table.columns, table.rows)
    write_texts(folder, results, groups, tables)
    with Progress("report", len(groups) + 1, "pages") as progress:
        page = report_page.render(results, groups, tables, settings, progress.advance)
    (folder / "index.html").write_text(page, encoding="utf-8")
    with output.create() as file:
        for name, table in tables.items():
            file.write(f"{name}_columns", list(table.columns))
            file.write(name, table.array())
        file.attributes["evaluations"] = len(results)
        file.attributes["weights"] = sorted({result.weights for result in results})


def write_texts(folder: Path, results: Sequence[Result], groups: Sequence[Group], tables: dict[str, Table]) -> None:
    """tables.md and tables.tex: results, split (the paper's table 1) and, where a method has several, its outputs."""
    titled = [("Results", report_tables.readable(groups)), ("Split", tables["split"])]
    if (outputs := report_tables.readable_outputs(groups)).rows:
        titled.append(("Outputs", outputs))
    notes = report_page.notes(results, groups)
    report_tables.write_markdown(folder / "tables.md", titled, notes)
    report_tables.write_latex(folder / "tables.tex", titled, notes)
