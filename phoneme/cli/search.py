"""phoneme-search: hyper-parameters, trial after trial."""

from phoneme.cli.app import Job, run


def search(job: Job) -> None:
    from phoneme.runs.search import run_search  # torch is imported only now: --help answers at once

    run_search(job.settings, job.folder)


def main() -> None:
    run(search, "search")


if __name__ == "__main__":
    main()
