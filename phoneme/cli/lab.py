"""phoneme-lab: the lecture's experiments."""

from phoneme.cli.app import Job, run


def lab(job: Job) -> None:
    from phoneme.runs.lab import run_lab  # torch is imported only now: --help answers at once

    run_lab(job.settings, job.portable, job.folder)


def main() -> None:
    run(lab, "lab")


if __name__ == "__main__":
    main()
