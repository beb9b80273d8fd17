"""Graders, one a file; a file here is a grader that rows can name."""
