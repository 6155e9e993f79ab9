"""What is to be run: studies with their runs and tasks, and the recipes, protocols and models behind them.

Everything is checked while planning, so that a mistake costs seconds; nothing here imports torch.
"""

from pipeline.config.durations import Duration as Duration
from pipeline.config.errors import ConfigError as ConfigError
from pipeline.config.heads import PROTOCOLS as PROTOCOLS
from pipeline.config.heads import RECIPES as RECIPES
from pipeline.config.heads import ProtocolHead as ProtocolHead
from pipeline.config.heads import RecipeHead as RecipeHead
from pipeline.config.heads import available_methods as available_methods
from pipeline.config.heads import available_tasks as available_tasks
from pipeline.config.heads import is_method as is_method
from pipeline.config.heads import protocol_head as protocol_head
from pipeline.config.heads import recipe_head as recipe_head
from pipeline.config.models import MODELS as MODELS
from pipeline.config.models import family as family
from pipeline.config.models import models as models
from pipeline.config.requests import Request as Request
from pipeline.config.sections import flatten as flatten
from pipeline.config.sets import DataSet as DataSet
from pipeline.config.sets import sources as sources
from pipeline.config.study import Run as Run
from pipeline.config.study import Study as Study
from pipeline.config.study import Task as Task
from pipeline.config.study import Track as Track
from pipeline.config.study import load_study as load_study
