"""historian.stream: the live tail and its seam with the history: hub, sweep, subscriptions, frames."""
