"""historian.schema: the database as the other layers see it: catalogue, tables, engines, and the forms that samples take on the way in and out."""
