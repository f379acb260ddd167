"""historian.documents: what saved trend views and dashboards have to be, and what is wrong with those that are not. docs/dashboards.md describes them for users."""
