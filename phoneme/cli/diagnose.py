"""phoneme-diagnose: from a checkpoint to a verdict about the error surface."""

from phoneme.cli.app import Job, run


def diagnose(job: Job) -> None:
    from phoneme.runs.diagnose import run_diagnose  # torch is imported only now: --help answers at once

    run_diagnose(job.settings, job.folder)


def main() -> None:
    run(diagnose, "diagnose")


if __name__ == "__main__":
    main()
