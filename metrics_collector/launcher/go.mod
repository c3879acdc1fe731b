module tunesmith.dev/launcher

go 1.19
