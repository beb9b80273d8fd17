"""What is to be solved, and how answers are graded."""

from isoflop.task.base import SPLITS, Grader, GraderError, Prompt, Question, Split, TaskError, TurnRole
from isoflop.task.questions import Questions

__all__ = ["SPLITS", "Grader", "GraderError", "Prompt", "Question", "Questions", "Split", "TaskError", "TurnRole"]
