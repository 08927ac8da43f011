"""Names of the phases of a run, as ``Phases`` and ``announced`` tell them."""

CHECKING, PREPARING, TRAINING, REFILLING = "checking the input", "preparing", "training", "refilling"
LAPS, SAMPLING, MEASURING, SCENES, FITTING = (
    "laps",
    "sampling by the flow",
    "measuring the flow",
    "drawing scenes",
    "fitting the flow",
)
CALIBRATION, MEANS, SAMPLES, HALVES = "calibration", "means", "samples", "halves"
RESTORING, WRITING, REPORT = "restoring", "writing", "report"
