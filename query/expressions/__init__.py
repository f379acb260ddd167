"""historian.query.expressions: calculations over tags, aligned by time: text, tree, evaluation, and what range queries and streams take of it."""
