module tunesmith/tests/cluster/pause

go 1.19
