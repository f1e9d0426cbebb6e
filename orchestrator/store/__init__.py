"""The coordinator's database: the only package that imports SQLAlchemy.

`schema` names the tables, `database` opens the files and owns transactions, and one module per topic holds the
statements. Statements take an open connection, so that one transaction can span topics.
"""
