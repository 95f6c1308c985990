"""phoneme-predict: from a checkpoint to a submission."""

from phoneme.cli.app import Job, run


def predict(job: Job) -> None:
    from phoneme.runs.predict import run_predict  # torch is imported only now: --help answers at once

    run_predict(job.settings, job.folder)


def main() -> None:
    run(predict, "predict")


if __name__ == "__main__":
    main()
