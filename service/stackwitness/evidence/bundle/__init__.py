"""The content of one bundle: chosen from database and published log, written member by member."""
