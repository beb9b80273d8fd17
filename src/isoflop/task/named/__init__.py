"""Sets of questions that have a name, one a file with a function `questions`."""
