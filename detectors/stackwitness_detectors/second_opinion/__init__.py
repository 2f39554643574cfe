"""A second opinion that knows no forgery by name: ECOD on standardised features of the residuals."""

from stackwitness_detectors.second_opinion.ecod import SecondOpinion

__all__ = ["SecondOpinion"]
