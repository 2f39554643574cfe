"""Pure forgery detectors: arrays in, findings out."""
