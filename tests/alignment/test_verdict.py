import pytest

from hf_vec2vec.alignment.verdict import AlignmentReport


@pytest.mark.parametrize(
    ("excess", "fit", "consensus", "verdict"),
    [
        (20.0, 0.8, 0.60, "aligned"),
        (20.0, 0.45, 0.60, "aligned"),  # halves that agree need less of a fit: one family's models with unlike pasts
        (20.0, 0.35, 0.66, "not aligned"),
        (20.0, 0.8, 0.40, "doubtful"),
        (20.0, 0.45, 0.40, "not aligned"),
        (3.0, 0.8, 0.60, "not aligned"),
    ],
)
def test_fit_and_agreement_make_the_verdict(excess, fit, consensus, verdict):
    report = AlignmentReport(0.3, 0.2, excess, 0.4, fit, consensus, agreement=None)
    assert report.verdict == verdict
    assert report.to_dict()["verdict"] == str(report).split(":")[0] == verdict
