"""Data sets that are read by image index, and training batches that are pure functions of the step."""

from ncsnx.data.batches import TrainingBatches
from ncsnx.data.dataset import Dataset, InMemory, Splits, StoredImages
from ncsnx.data.memory_cache import cache_in_memory
from ncsnx.data.places import DataMissingError, data_folder
from ncsnx.data.registry import DataSet, data_set, data_set_of, data_sets, open_data
from ncsnx.data.transforms import Preprocessing

__all__ = [
    "DataMissingError",
    "DataSet",
    "Dataset",
    "InMemory",
    "Preprocessing",
    "Splits",
    "StoredImages",
    "TrainingBatches",
    "cache_in_memory",
    "data_folder",
    "data_set",
    "data_set_of",
    "data_sets",
    "open_data",
]
