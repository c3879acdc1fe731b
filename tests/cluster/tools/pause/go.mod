module tunesmith/tests/cluster/pause

go 1.24.0
