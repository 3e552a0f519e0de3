def _same(env, *args, **kwargs):
    return env


RecordEpisodeStatistics = RecordVideo = FlattenObservation = ClipAction = NormalizeObservation = _same
TransformObservation = NormalizeReward = TransformReward = TimeLimit = _same
