"""The rows of `accuracy.py`: recipes, peers, and `boss` with one thing changed; and the corpora they run on."""

CORPORA = {  # what a corpus adds to a command
    "speechocean": ("data.split.by=speaker", r'data.speaker_pattern="^(\d{5})"'),  # no speaker on both sides
    "librispeech": (),  # three speakers: no utterance on both sides
}
SAMPLE_SPLIT = ("data.split.val_fraction=0.1", "data.split.seed=0")  # as the other recipes have it
SMALL_BILSTM = ("model.width=64", "model.depth=1", "data.train_score_share=0.02")
SMALL_BIGRU = ("model.width=128", "model.depth=3")

# The recipe `boss` with one thing changed, and as it is.
ABLATIONS = {
    "recipe": (),
    "no_masks": ("augment=none",),
    "no_time_masks": ("augment.time_masks=0",),
    "no_frequency_masks": ("augment.frequency_masks=0",),
    "noise": ("augment.noise=0.1",),
    "speed": ("augment.speed=0.1",),
    "no_smoothing": ("loss.label_smoothing=0",),
    "no_dropout": ("model.dropout=0",),
    "dropout_by_utterance": ("model.dropout_kind=utterance",),
    "ema": ("callbacks/averaging=ema",),
    "swa": ("callbacks/averaging=swa", "schedule.final=0.2"),
    "constant_rate": ("schedule=constant",),
    "no_warm_up": ("schedule=cosine",),
    "clipping": ("trainer.gradient_clip_val=1",),
    "accumulation": ("trainer.accumulate_grad_batches=4",),
    "float32": ("trainer.precision=32-true",),
    "batch_by_utterances": ("data.batch_utterances=10",),
    "unmasked": ("model.masked=false", "loss.padding_class=0", "data.batch_utterances=10"),
    "course_deltas": ("features=course",),
    "both_deltas": ("features=both",),
    "statics": ("features=statics",),
    "no_convolutions": ("model.front_depth=0",),
    "gru": ("model=gru",),
    "tcn": ("model=tcn", "model.depth=8", "model.norm=batch", "model.front_depth=0"),
    "conformer": ("model=conformer", "model.depth=3", "model.front_depth=0"),
}
# row: (ours or a peer's, what it adds to `phoneme-train` or `phoneme-baseline`)
ROWS = {
    "simple": ("ours", ("experiment=simple", *SAMPLE_SPLIT)),
    "medium": ("ours", ("experiment=medium",)),
    "strong": ("ours", ("experiment=strong",)),
    "boss": ("ours", ("experiment=boss",)),
    "peer_sample": ("peer", ("experiment=peer_sample", *SAMPLE_SPLIT)),
    "peer_svm": ("peer", ("baseline=linear_svm",)),
    "peer_sklearn_mlp": ("peer", ("baseline=mlp", "frames=100000", "baseline.max_iter=40")),
    "peer_linear": ("peer", ("experiment=peer_linear",)),
    "peer_mlp": ("peer", ("experiment=peer_mlp",)),
    "peer_bilstm": ("peer", ("experiment=peer_bilstm", "data.train_score_share=0.002")),
    "peer_bilstm_128": ("peer", ("experiment=peer_bilstm", "model.width=128", "model.depth=2")),  # for its pace
    "peer_bilstm_small": ("peer", ("experiment=peer_bilstm", *SMALL_BILSTM)),
    "peer_bigru": ("peer", ("experiment=peer_bigru",)),
    "peer_bigru_small": ("peer", ("experiment=peer_bigru", *SMALL_BIGRU)),
}
