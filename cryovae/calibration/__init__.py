"""From held-out residuals to the variance of the restored density."""
