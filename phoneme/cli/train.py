"""phoneme-train: from a corpus to a trained classifier and a submission."""

from phoneme.cli.app import Job, run


def train(job: Job) -> None:
    from phoneme.runs.train import train  # torch is imported only now: --help answers at once

    train(job.settings, job.portable, job.folder, job.multirun)


def main() -> None:
    run(train, "train")


if __name__ == "__main__":
    main()
