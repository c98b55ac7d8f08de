"""Data sets that are read by image index, and training batches that are pure functions of the step."""

from ncsnx.data.batches import TrainingBatches as TrainingBatches
from ncsnx.data.dataset import Dataset as Dataset
from ncsnx.data.dataset import InMemory as InMemory
from ncsnx.data.dataset import Splits as Splits
from ncsnx.data.dataset import StoredImages as StoredImages
from ncsnx.data.memory_cache import cache_in_memory as cache_in_memory
from ncsnx.data.places import DataMissingError as DataMissingError
from ncsnx.data.places import data_folder as data_folder
from ncsnx.data.registry import RegisteredDataSet as RegisteredDataSet
from ncsnx.data.registry import data_set as data_set
from ncsnx.data.registry import data_set_of as data_set_of
from ncsnx.data.registry import data_sets as data_sets
from ncsnx.data.registry import open_data as open_data
from ncsnx.data.transforms import Preprocessing as Preprocessing
