module tunesmith/tests/oracles/gjson

go 1.19

// v1.18.0: the newest release that every Go back to 1.12 builds; later ones evaluate paths alike.
require github.com/tidwall/gjson v1.18.0

// The release that Katib 0.19 is built with, under a second name so that both fit in one program.
require katib.invalid/gjson v0.0.0

require (
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.0 // indirect
)

replace katib.invalid/gjson => github.com/tidwall/gjson v1.14.1
