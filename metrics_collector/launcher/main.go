// SPDX-License-Identifier: Apache-2.0

// Command tunesmith-launcher runs a trial's program in a pod and leaves no trace in it: the same
// argv, environment, working directory and exit code, the same output on the same streams. Beside
// that it copies the output into a shared directory for the metrics sidecar, notes how the program
// ended, and ends it when the sidecar asks for that. It is one static file without dependencies,
// for it runs in images that have neither a shell nor a C library.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const usage = `usage: tunesmith-launcher [-dir DIR] [-grace 30s] [-limit BYTES] -- COMMAND [ARG...]
       tunesmith-launcher check        exits 0: it is in place and can run
       tunesmith-launcher copy DEST    puts itself at DEST, all at once
`

// graceVariable sets the default of -grace, in seconds.
const graceVariable = "TUNESMITH_STOP_GRACE_SECONDS"

const (
	exitUsage      = 2
	exitCannotRun  = 126
	exitNotFound   = 127
	exitBySignal   = 128
	defaultGrace   = 30 * time.Second
	defaultLimit   = 1 << 30
	defaultShared  = "/tunesmith"
	ownMode        = 0o755
	everyoneReads  = 0o644
	everyoneWrites = 0o666
)

type options struct {
	dir   string
	grace time.Duration
	limit int64
}

func main() {
	os.Exit(command(os.Args[1:]))
}

func command(arguments []string) int {
	if len(arguments) == 1 && arguments[0] == "check" {
		return 0
	}
	if len(arguments) == 2 && arguments[0] == "copy" {
		return report(copySelf(arguments[1]))
	}
	parsed, argv, err := parse(arguments)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tunesmith-launcher: %v\n%s", err, usage)
		return exitUsage
	}
	return run(parsed, argv)
}

// parse wants the command behind "--", so that no program can be taken for an option.
func parse(arguments []string) (options, []string, error) {
	own, argv := split(arguments)
	if len(argv) == 0 {
		return options{}, nil, errors.New("no command after --")
	}
	found := options{}
	flags := flag.NewFlagSet("tunesmith-launcher", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&found.dir, "dir", defaultShared, "")
	flags.DurationVar(&found.grace, "grace", graceFrom(os.Getenv(graceVariable)), "")
	flags.Int64Var(&found.limit, "limit", defaultLimit, "")
	if err := flags.Parse(own); err != nil {
		return options{}, nil, err
	}
	if flags.NArg() > 0 {
		return options{}, nil, fmt.Errorf("unknown: %q", flags.Args())
	}
	return found, argv, nil
}

func split(arguments []string) (own, argv []string) {
	for index, argument := range arguments {
		if argument == "--" {
			return arguments[:index], arguments[index+1:]
		}
	}
	return arguments, nil
}

func graceFrom(seconds string) time.Duration {
	number, err := strconv.ParseFloat(seconds, 64)
	if err != nil || number < 0 {
		return defaultGrace
	}
	return time.Duration(number * float64(time.Second))
}

// copySelf is safe while another copy at dest is running: that one's file lives on without a name.
func copySelf(dest string) error {
	source, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.CreateTemp(filepath.Dir(dest), ".launcher-*")
	if err != nil {
		return err
	}
	defer os.Remove(target.Name())
	defer target.Close()
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	if err := target.Chmod(ownMode); err != nil {
		return err
	}
	return os.Rename(target.Name(), dest)
}

func report(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "tunesmith-launcher: %v\n", err)
		return 1
	}
	return 0
}
