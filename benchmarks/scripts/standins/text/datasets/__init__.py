"""A table of sentences with labels, through as much of the interface of Hugging Face's datasets as examples use."""

import random

WORDS = "the a cat dog sits runs on under red green old new house tree and or never always".split()


class Dataset:
    def __init__(self, rows):
        self.rows = rows

    @property
    def column_names(self):
        return list(self.rows[0])

    @property
    def features(self):
        return dict.fromkeys(self.column_names)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        if isinstance(key, str):
            return [row[key] for row in self.rows]
        if isinstance(key, slice):
            return {name: [row[name] for row in self.rows[key]] for name in self.column_names}
        return self.rows[key]

    def __iter__(self):
        return iter(self.rows)

    def __getitems__(self, keys):
        return [self.rows[key] for key in keys]

    def map(self, function, batched=False, remove_columns=(), **_):
        if batched:
            columns = function({name: self[name] for name in self.column_names})
            added = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        else:
            added = [function(row) for row in self.rows]
        kept = [{k: v for k, v in row.items() if k not in remove_columns} for row in self.rows]
        return Dataset([{**old, **new} for old, new in zip(kept, added, strict=True)])

    def rename_column(self, old, new):
        return Dataset([{new if key == old else key: value for key, value in row.items()} for row in self.rows])

    def set_format(self, *args, **kwargs):
        pass

    def select(self, indices):
        return Dataset([self.rows[index] for index in indices])

    def shuffle(self, *args, **kwargs):
        return self


class DatasetDict(dict):
    @property
    def column_names(self):
        return {name: part.column_names for name, part in self.items()}

    def map(self, *args, **kwargs):
        return DatasetDict({name: part.map(*args, **kwargs) for name, part in self.items()})

    def rename_column(self, *args):
        return DatasetDict({name: part.rename_column(*args) for name, part in self.items()})


def load_dataset(*names, split=None, **_):
    maker = random.Random(0)

    pairs = any("glue" in name for name in names)

    def rows(count):
        for number in range(count):
            first, second = (" ".join(maker.choices(WORDS, k=8)) for _ in range(2))
            texts = {"sentence1": first, "sentence2": second, "idx": number} if pairs else {"text": f"{first} {second}"}
            yield {**texts, "label": maker.randrange(2)}

    sizes = {"train": 3668, "validation": 408, "test": 408}  # as MRPC has
    parts = DatasetDict({name: Dataset(list(rows(count))) for name, count in sizes.items()})
    return parts if split is None else parts[split.partition("[")[0]]
