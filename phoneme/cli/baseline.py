"""phoneme-baseline: what a model reaches that cannot fail to optimise."""

from phoneme.cli.app import Job, run


def baseline(job: Job) -> None:
    from phoneme.runs.baseline import run_baseline  # torch is imported only now: --help answers at once

    run_baseline(job.settings, job.portable, job.folder)


def main() -> None:
    run(baseline, "baseline")


if __name__ == "__main__":
    main()
